internal import Foundation
public import Settings
public import Tensor

/// Stands for some of a model's parameters: those of a tower (`image`, `text`), or those whose open_clip names begin
/// with whole parts of a name (`visual.conv1`, `transformer.resblocks.0`, `logit_scale`), with or without a dot behind.
public struct ParameterPrefix: Sendable, Equatable {
  private static let towers: [Towers] = [.image, .text]
  private let tower: Towers?
  /// The beginning of the names, without the dot; empty for a tower.
  let text: String

  public init(_ text: String) {
    tower = Self.towers.first { $0.rawValue == text }
    self.text = tower == nil ? String(text.hasSuffix(".") ? text.dropLast() : text[...]) : ""
  }

  /// Returns whether a parameter has this name or prefix. The scales and the objective's own parameters are no tower's.
  public func contains(_ name: String) -> Bool {
    if let tower { return NamedSlice.Owner(of: name) == .model && tower.contains(name) }
    return name == text || name.hasPrefix("\(text).")
  }

  /// Returns everything that stands for at least one of these names.
  public static func all(of names: [String]) -> [String] {
    let prefixes = names.flatMap { name -> [String] in
      let parts = name.split(separator: ".")
      return parts.indices.map { parts[...$0].joined(separator: ".") }
    }
    return Set(prefixes + towers.map(\.rawValue)).sorted()
  }
}

/// Parameters with a learning rate and a weight decay of their own.
public struct ParameterGroup: Section {
  /// The parameters, as a `ParameterPrefix`.
  public var match = ""
  /// The factor of the schedule's learning rate.
  public var scale = 1.0
  /// The weight decay of those among them that decay at all; nil: the run's.
  public var decay: Double?

  public init() {}
  public init(match: String, scale: Double = 1, decay: Double? = nil) {
    (self.match, self.scale, self.decay) = (match, scale, decay)
  }

  public mutating func fields(_ map: FieldMap) {
    map.required("match", &match, "a tower (image, text), or the beginning of names such as visual.conv1")
    map.field("lr_scale", &scale)
    map.optional("weight_decay", &decay)
  }

  public static var expectation: String { "a group (match, lr_scale, weight_decay)" }
}

/// The factors by which the learning rate falls from each layer of a tower to the one before it. The short form is one
/// number for both towers.
///
/// In a tower of L blocks the learning rate of layer l is decay^(L + 1 − l) times that of the schedule. Layer 0 is
/// everything before the blocks (patch or token embedding, class token, positions, ln_pre), block i, counted from 0, is
/// layer i + 1, and what follows the blocks (last norm, projection) is layer L + 1, which has the whole rate. This is
/// the convention of BEiT (Bao et al.: BEiT: BERT Pre-Training of Image Transformers, ICLR 2022; in its code
/// `get_num_layer_for_vit`) and of EVA-CLIP, which applies it to both towers. The blocks of a ResNet are its four
/// stages, layer 0 is its stem, and what follows is the attention pool. The scales belong to no tower and keep the
/// whole rate.
public struct LayerDecay: Section {
  /// The factor from a layer of the image tower to the one before it; 1 is none.
  public var image = 1.0
  /// The factor of the text tower.
  public var text = 1.0

  public init() {}
  public init(image: Double, text: Double) { (self.image, self.text) = (image, text) }

  public mutating func fields(_ map: FieldMap) {
    map.field("image", &image)
    map.field("text", &text)
  }

  public static var expectation: String { "a number, or a section (image, text)" }

  public static func read(_ node: RunNode, _ problems: Problems) -> LayerDecay? {
    guard let number = node.plain.flatMap(YAMLNumber.double) else { return read(node, over: LayerDecay(), problems) }
    problems.note(node)
    return LayerDecay(image: number, text: number)
  }

  private static let ends: Set<Substring> = ["ln_post", "proj", "attnpool", "ln_final", "text_projection"]

  /// Returns the layer of a tower's parameter; nil for what follows the blocks.
  static func layer(of name: String) -> Int? {
    var parts = name.split(separator: ".")[...]
    if parts.first == "visual" { parts.removeFirst() }
    guard let first = parts.first, !ends.contains(first) else { return nil }
    if first == "transformer" { return parts.dropFirst(2).first.flatMap { Int($0) }.map { $0 + 1 } }
    return first.hasPrefix("layer") ? Int(first.dropFirst(5)) : 0
  }

  /// Returns the factor of each parameter's learning rate in a layout that has all blocks of the towers.
  func factors(of entries: [NamedSlice]) -> [Double] {
    let towers = [(Towers.image, image), (.text, text)].map { tower, decay in
      let isOwn = entries.map { $0.owner == .model && tower.contains($0.name) }
      let blocks = zip(entries, isOwn).compactMap { $1 ? Self.layer(of: $0.name) : nil }.max() ?? 0
      return (isOwn: isOwn, blocks: blocks, decay: decay)
    }
    return entries.indices.map { index in
      guard let tower = towers.first(where: { $0.isOwn[index] }), let layer = Self.layer(of: entries[index].name)
      else { return 1 }
      return pow(tower.decay, Double(tower.blocks + 1 - layer))
    }
  }
}

/// What the learning rates and weight decays of single parameters depend on; by default they are the run's.
public struct ParameterGroups: Sendable, Equatable {
  public var groups: [ParameterGroup]
  public var layerDecay: LayerDecay?

  public init(_ groups: [ParameterGroup] = [], layerDecay: LayerDecay? = nil) {
    (self.groups, self.layerDecay) = (groups, layerDecay)
  }

  /// Returns for each parameter of a model's layout the factor of its learning rate, which is that of its group times
  /// that of its layer, and the index of its group. Of several groups with the parameter, the one with the longest
  /// prefix has it; a tower is shorter than any prefix.
  public func choices(for entries: [NamedSlice]) -> [(scale: Double, group: Int?)] {
    let prefixes = groups.map { ParameterPrefix($0.match) }
    let factors = layerDecay?.factors(of: entries) ?? [Double](repeating: 1, count: entries.count)
    return zip(entries, factors).map { entry, factor in
      let group = prefixes.indices.filter { prefixes[$0].contains(entry.name) }
        .max { prefixes[$0].text.count < prefixes[$1].text.count }
      return (factor * (group.map { groups[$0].scale } ?? 1), group)
    }
  }
}
