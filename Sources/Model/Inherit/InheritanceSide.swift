import Tensor

/// What inheritance needs to know of a model: names, shapes, and how wide its heads are.
struct InheritanceSide {
  /// Parameters, and the buffers behind them.
  let entries: [(name: String, shape: Shape)]
  let shapes: [String: Shape]
  /// How many blocks each stack has.
  let stacks: [String: Int]
  /// Numbers in a head of the image tower, and of the text tower.
  let visualHead: Int
  let textHead: Int

  init(_ config: CLIPConfig) {
    let layout = CLIP<Float>.layout(config)
    entries = layout.entries.map { ($0.name, $0.shape) } + layout.buffers.map { ($0.name, $0.shape) }
    shapes = Dictionary(uniqueKeysWithValues: entries.map { ($0.name, $0.shape) })
    var stacks: [String: Int] = [:]
    for place in entries.compactMap({ BlockName($0.name) }) {
      stacks[place.stack] = max(stacks[place.stack] ?? 0, place.index + 1)
    }
    self.stacks = stacks
    visualHead = config.vision.headWidth
    textHead = config.text.headWidth
  }

  /// What the image tower is.
  var kind: String { shapes["visual.class_embedding"] == nil ? "ModifiedResNet" : "vision transformer" }
}

/// The name of a parameter within a stack of blocks: `visual.transformer.resblocks.3.ln_1.weight` is `ln_1.weight` of
/// block 3 of the stack `visual.transformer.resblocks`; a stage of a ResNet, `visual.layer2`, is a stack too.
struct BlockName {
  let stack: String
  let index: Int
  let rest: String

  init?(_ name: String) {
    let words = name.split(separator: ".").map(String.init)
    guard
      let at = words.indices.dropFirst().first(where: { index in
        words[index].allSatisfy(\.isNumber)
          && (words[index - 1] == "resblocks" || words[index - 1].hasPrefix("layer"))
      }), let index = Int(words[at])
    else { return nil }
    stack = words[..<at].joined(separator: ".")
    self.index = index
    rest = words[(at + 1)...].joined(separator: ".")
  }
}
