public import Tensor

/// TinyCLIP's manual weight inheritance: a plan that cuts a student's tensors from those of a source model, based on
/// names and shapes alone. Depth: in a stack of L_S student blocks and L_T source blocks (a transformer, or a stage of
/// a ResNet), block i comes from the source's block i·⌊L_T / L_S⌋. Width: each tensor is the leading slice of the
/// source's along every axis. The fused projection of q, k and v is treated as [3, heads, d, in]: leading heads stay.
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

  /// Plans the cuts of the given towers. Throws an `InheritanceError` with every tensor that cannot be cut.
  public init(from source: CLIPConfig, to student: CLIPConfig, towers: Towers = .both) throws(InheritanceError) {
    let (tensors, sources) = (Self.tensors(of: student), Self.tensors(of: source))
    let shapes = Dictionary(uniqueKeysWithValues: sources.map { ($0.name, $0.shape) })
    let (counts, sourceCounts) = (Self.stacks(tensors), Self.stacks(sources))
    var (cuts, problems): ([Cut], [String]) = ([], [])
    let kinds = [source, student].map { $0.vision.stages == nil ? "vision transformer" : "ModifiedResNet" }
    let sameKind = kinds[0] == kinds[1]
    if towers.image, !sameKind {
      problems.append(
        "visual: the source's image tower is a \(kinds[0]) and the student's is a \(kinds[1]), which cannot be cut "
          + "from each other; set init.towers to text")
    }
    // Where the student is deeper, `blocks` is empty.
    stacks = counts.sorted { $0.key < $1.key }.compactMap { name, count in
      guard towers.contains(name), let deep = sourceCounts[name] else { return nil }
      let stride = deep / count
      return Stack(name: name, blocks: stride == 0 ? [] : (0..<count).map { $0 * stride }, sourceCount: deep)
    }
    for stack in stacks where stack.blocks.isEmpty {
      problems.append(
        "\(stack.name): the student's \(counts[stack.name] ?? 0) blocks cannot come from the source's "
          + "\(stack.sourceCount); make the student no deeper than the source")
    }
    for entry in tensors where towers.contains(entry.name) && (sameKind || !entry.name.hasPrefix("visual.")) {
      var name = entry.name
      if let place = BlockName(name) {
        guard let map = stacks.first(where: { $0.name == place.stack })?.blocks, !map.isEmpty else { continue }
        name = "\(place.stack).\(map[place.index]).\(place.rest)"
      }
      guard let shape = shapes[name] else {
        // Without a bias in the source, the student's keeps its initial value.
        if name != CLIPConfig.logitBias { problems.append("\(entry.name) \(entry.shape): the source has no \(name)") }
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
  }

  /// Returns the parameters of a model, followed by its buffers.
  private static func tensors(of config: CLIPConfig) -> [(name: String, shape: Shape)] {
    let layout = CLIP<Float>.layout(config)
    return layout.entries.map { ($0.name, $0.shape) } + layout.buffers.map { ($0.name, $0.shape) }
  }

  private static func stacks(_ tensors: [(name: String, shape: Shape)]) -> [String: Int] {
    tensors.compactMap { BlockName($0.name) }.reduce(into: [:]) { $0[$1.stack] = max($0[$1.stack] ?? 0, $1.index + 1) }
  }

  /// Returns the reason why a tensor is not a leading part of its source, with the setting to change, or nil if it is.
  private static func obstacle(to cut: Cut, from source: CLIPConfig, _ student: CLIPConfig) -> String? {
    let (shape, from, name) = (cut.shape.array, cut.sourceShape.array, cut.name)
    guard shape.count == from.count else { return "they have different numbers of axes" }
    let visual = name.hasPrefix("visual.")
    if shape.count == 4, shape[2...] != from[2...] {
      return "a kernel of \(shape[2])×\(shape[3]) cannot be cut from one of \(from[2])×\(from[3]); "
        + "set vision_cfg.patch_size to \(from[2]), or init.towers to text"
    }
    if visual, name.hasSuffix("positional_embedding"), shape[0] != from[0] {
      return "the positions belong to different grids; set vision_cfg.image_size and patch_size to the source's values"
    }
    if name == CLIPConfig.tokenEmbedding, shape[0] != from[0] {
      return "the vocabularies differ, so the same ids mean different words; use the source's vocabulary, or set "
        + "init.towers to image"
    }
    // One of the tensor's axes consists of heads.
    let isHeaded =
      name.contains(".attn.in_proj") || name.hasSuffix(".attn.out_proj.weight")
      || (name.contains(".attnpool.") && name.contains("_proj."))
    let wide = visual ? student.vision.headWidth : student.text.headWidth
    let sourceWide = visual ? source.vision.headWidth : source.text.headWidth
    if isHeaded, wide != sourceWide {
      return "heads of width \(wide) cannot be cut from heads of width \(sourceWide); set "
        + (visual ? "vision_cfg.head_width to \(sourceWide)" : "text_cfg.heads to text_cfg.width / \(sourceWide)")
    }
    if let axis = shape.indices.first(where: { shape[$0] > from[$0] }) {
      return "\(shape[axis]) exceeds the source's \(from[axis]); make \(visual ? "vision_cfg" : "text_cfg") no wider "
        + "than the source" + (name.hasSuffix("proj") ? ", and embed_dim no larger" : "")
    }
    return nil
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
    let (to, from) = (extents(shape), extents(sourceShape))
    for line in 0..<parts * to.rows * to.middle {
      let (row, middle) = (line / to.middle, line % to.middle)
      let source = ((row / to.rows * from.rows + row % to.rows) * from.middle + middle) * from.run
      copy(whole.slice(source..<source + to.run), into: target.slice(line * to.run..<(line + 1) * to.run))
    }
  }

  /// Returns a shape as [parts, rows, middle, run]. A run is contiguous: no axis after the second is ever cut.
  private func extents(_ shape: Shape) -> (rows: Int, middle: Int, run: Int) {
    let sizes = shape.array
    guard sizes.count > 1 else { return (1, 1, shape.count / parts) }
    let rest = sizes.dropFirst(min(sizes.count - 1, 2)).reduce(1, *)
    return (sizes[0] / parts, sizes.count > 2 ? sizes[1] : 1, rest)
  }
}

/// The reasons why a student cannot be cut from a source.
public struct InheritanceError: Error, Equatable, CustomStringConvertible {
  /// A message for every tensor that cannot be cut, with the setting to change.
  public let problems: [String]
  public var description: String { problems.joined(separator: "\n  ") }
}

/// The name of a parameter in a stack of blocks: `visual.transformer.resblocks.3.ln_1.weight` is `ln_1.weight` in block
/// 3 of the stack `visual.transformer.resblocks`. A stage of a ResNet, such as `visual.layer2`, is also a stack.
struct BlockName {
  let stack: String
  let index: Int
  let rest: String

  init?(_ name: String) {
    let words = name.split(separator: ".").map(String.init)
    let place = words.indices.dropFirst().first {
      words[$0].allSatisfy(\.isNumber) && (words[$0 - 1] == "resblocks" || words[$0 - 1].hasPrefix("layer"))
    }
    guard let place, let index = Int(words[place]) else { return nil }
    stack = words[..<place].joined(separator: ".")
    self.index = index
    rest = words[(place + 1)...].joined(separator: ".")
  }
}
