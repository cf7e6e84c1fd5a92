public import Tensor

/// TinyCLIP's manual weight inheritance: a plan that cuts a student's tensors from those of a source model.
///
/// Depth: in a stack of L_S student blocks and L_T source blocks (a transformer, or a stage of a ResNet), block i comes
/// from the source's block i·⌊L_T / L_S⌋: of 12 source blocks, nine student blocks are the first nine, and six are
/// every second one. Width: each tensor is the leading slice of the source's along every axis. The fused projection of
/// q, k and v, [3·heads·d, in], is treated as [3, heads, d, in], so that leading heads are kept. The plan is based on
/// names and shapes alone, so it works for every tower with open_clip's names.
public struct Inheritance: Sendable {
  /// A tensor of the student, and the source's tensor of which it is the leading part.
  public struct Cut: Sendable, Equatable {
    public let name: String
    public let shape: Shape
    public let source: String
    public let sourceShape: Shape
    /// The number of equal parts of the first axis that are cut separately: 3 for q, k and v, else 1.
    public let parts: Int
  }

  /// A stack of blocks.
  public struct Stack: Sendable, Equatable {
    public let name: String
    /// The index of the source's block from which each of the student's blocks comes.
    public let blocks: [Int]
    /// The number of blocks in the source's stack.
    public let sourceCount: Int
  }

  public let cuts: [Cut]
  public let stacks: [Stack]

  /// Plans the cuts of the given towers.
  ///
  /// - Throws: `InheritanceError` with every tensor that cannot be cut and the setting to change.
  public init(from source: CLIPConfig, to student: CLIPConfig, towers: Towers = .both) throws(InheritanceError) {
    try self.init(from: InheritanceSide(source), to: InheritanceSide(student), towers: towers)
  }

  init(from source: InheritanceSide, to student: InheritanceSide, towers: Towers) throws(InheritanceError) {
    var cuts: [Cut] = []
    var problems: [String] = []
    let wanted = student.entries.filter { towers.contains($0.name) }
    let sameKind = source.kind == student.kind
    if towers.image, !sameKind {
      problems.append(
        "visual: the source's image tower is a \(source.kind) and the student's is a \(student.kind), which cannot be "
          + "cut from each other; set init.towers to text")
    }
    let stacks = Self.stacks(from: source, to: student, towers: towers)
    for stack in stacks where stack.blocks.isEmpty {
      problems.append(
        "\(stack.name): the student's \(student.stacks[stack.name] ?? 0) blocks cannot come from the source's "
          + "\(stack.sourceCount); make the student no deeper than the source")
    }
    let blocks = Dictionary(uniqueKeysWithValues: stacks.map { ($0.name, $0.blocks) })
    for entry in wanted where sameKind || !entry.name.hasPrefix("visual.") {
      var name = entry.name
      if let place = BlockName(name) {
        guard let map = blocks[place.stack], !map.isEmpty else { continue }
        name = "\(place.stack).\(map[place.index]).\(place.rest)"
      }
      guard let shape = source.shapes[name] else {
        // Without a bias in the source, the student's keeps its initial value.
        guard name != CLIPConfig.logitBias else { continue }
        problems.append("\(entry.name) \(entry.shape): the source has no \(name)")
        continue
      }
      let cut = Cut(
        name: entry.name, shape: entry.shape, source: name, sourceShape: shape,
        parts: name.hasSuffix(".in_proj_weight") || name.hasSuffix(".in_proj_bias") ? 3 : 1)
      if let reason = Self.obstacle(to: cut, from: source, student) {
        problems.append("\(entry.name) \(entry.shape) from \(shape): \(reason)")
      } else {
        cuts.append(cut)
      }
    }
    guard problems.isEmpty else { throw InheritanceError(problems: problems) }
    self.cuts = cuts
    self.stacks = stacks
  }

  /// Returns the stacks that both models have, by name. Where the student is deeper, `blocks` is empty.
  private static func stacks(
    from source: InheritanceSide, to student: InheritanceSide, towers: Towers
  ) -> [Stack] {
    student.stacks.sorted { $0.key < $1.key }.compactMap { name, count in
      guard towers.contains(name), let deep = source.stacks[name] else { return nil }
      let stride = deep / count
      return Stack(name: name, blocks: stride == 0 ? [] : (0..<count).map { $0 * stride }, sourceCount: deep)
    }
  }

  /// Returns the reason why a tensor is not a leading part of its source, with the setting to change, or nil if it is.
  private static func obstacle(
    to cut: Cut, from source: InheritanceSide, _ student: InheritanceSide
  ) -> String? {
    let (shape, from) = (cut.shape.array, cut.sourceShape.array)
    guard shape.count == from.count else { return "they have different numbers of axes" }
    let visual = cut.name.hasPrefix("visual.")
    let section = visual ? "vision_cfg" : "text_cfg"
    if shape.count == 4, shape[2...] != from[2...] {
      return "a kernel of \(shape[2])×\(shape[3]) cannot be cut from one of \(from[2])×\(from[3]); "
        + "set vision_cfg.patch_size to \(from[2]), or init.towers to text"
    }
    if visual, cut.name.hasSuffix("positional_embedding"), shape[0] != from[0] {
      return "the positions belong to different grids; set vision_cfg.image_size and patch_size to the source's values"
    }
    if cut.name == CLIPConfig.tokenEmbedding, shape[0] != from[0] {
      return
        "the vocabularies differ, so the same ids mean different words; use the source's vocabulary, or set "
        + "init.towers to image"
    }
    if Self.isHeaded(cut.name) {
      let (wide, sourceWide) = visual ? (student.visualHead, source.visualHead) : (student.textHead, source.textHead)
      if wide != sourceWide {
        return "heads of width \(wide) cannot be cut from heads of width \(sourceWide); set "
          + (visual ? "vision_cfg.head_width to \(sourceWide)" : "text_cfg.heads to text_cfg.width / \(sourceWide)")
      }
    }
    if let axis = shape.indices.first(where: { shape[$0] > from[$0] }) {
      return "\(shape[axis]) exceeds the source's \(from[axis]); make \(section) no wider than the source"
        + (cut.name.hasSuffix("proj") ? ", and embed_dim no larger" : "")
    }
    return nil
  }

  /// Returns whether one of the tensor's axes consists of heads.
  private static func isHeaded(_ name: String) -> Bool {
    name.contains(".attn.in_proj") || name.hasSuffix(".attn.out_proj.weight")
      || (name.contains(".attnpool.") && name.contains("_proj."))
  }

  /// Fills the student's parameters and buffers from the source's. Those without a cut keep their values.
  public func apply<S: Scalar>(from source: ParameterStore<S>, to student: ParameterStore<S>) {
    for cut in cuts {
      if let from = source.entry(named: cut.source), let to = student.entry(named: cut.name) {
        cut.take(from: source.value(of: from), into: student.value(of: to))
      } else if let from = source.buffer(named: cut.source), let to = student.buffer(named: cut.name) {
        cut.take(from: source.value(of: from), into: student.value(of: to))
      } else {
        preconditionFailure("\(cut.name) from \(cut.source): these are not the models of the plan")
      }
    }
  }
}

extension Inheritance.Cut {
  /// target ← the leading part of `whole`, the source's tensor.
  func take<S: Scalar>(from whole: Tensor<S>, into target: Tensor<S>) {
    precondition(whole.shape == sourceShape && target.shape == shape, "\(whole.shape) into \(target.shape) for \(name)")
    let (to, from) = (Extents(shape, parts), Extents(sourceShape, parts))
    for part in 0..<parts {
      for row in 0..<to.rows {
        for middle in 0..<to.middle {
          let source = from.start(part: part, row: row, middle: middle)
          let start = to.start(part: part, row: row, middle: middle)
          copy(whole.slice(source..<source + to.run), into: target.slice(start..<start + to.run))
        }
      }
    }
  }

  /// A shape as [parts, rows, middle, run]. The elements of a run are contiguous in target and source, because no axis
  /// after the second is ever cut.
  private struct Extents {
    let rows: Int
    let middle: Int
    let run: Int

    init(_ shape: Shape, _ parts: Int) {
      let sizes = shape.array
      guard sizes.count > 1 else {
        (rows, middle, run) = (1, 1, shape.count / parts)
        return
      }
      rows = sizes[0] / parts
      run = sizes.count == 2 ? sizes[1] : sizes[2...].reduce(1, *)
      middle = sizes.count == 2 ? 1 : sizes[1]
    }

    func start(part: Int, row: Int, middle index: Int) -> Int { ((part * rows + row) * middle + index) * run }
  }
}

/// The reasons why a student cannot be cut from a source.
public struct InheritanceError: Error, Equatable, CustomStringConvertible {
  /// A message for every tensor that cannot be cut, with the setting to change.
  public let problems: [String]

  public var description: String { problems.joined(separator: "\n  ") }
}

/// The properties of a model that inheritance depends on: names, shapes and the width of its heads.
struct InheritanceSide {
  /// The parameters, followed by the buffers.
  let entries: [(name: String, shape: Shape)]
  let shapes: [String: Shape]
  /// The number of blocks in each stack.
  let stacks: [String: Int]
  /// The width of a head of the image tower, and of the text tower.
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

  /// The kind of the image tower.
  var kind: String { shapes["visual.class_embedding"] == nil ? "ModifiedResNet" : "vision transformer" }
}

/// The name of a parameter in a stack of blocks: `visual.transformer.resblocks.3.ln_1.weight` is `ln_1.weight` in block
/// 3 of the stack `visual.transformer.resblocks`. A stage of a ResNet, such as `visual.layer2`, is also a stack.
struct BlockName {
  let stack: String
  let index: Int
  let rest: String

  /// Splits a parameter's name, or returns nil if it is in no stack.
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
