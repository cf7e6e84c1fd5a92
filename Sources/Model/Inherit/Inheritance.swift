public import Tensor

/// TinyCLIP's manual weight inheritance: how a student's tensors are cut from a source's.
///
/// Depth: of L_S blocks of a stack (a transformer, or a stage of a ResNet) block i comes from the source's block
/// i·⌊L_T / L_S⌋: of 12 blocks the first nine make nine, every second makes six. Width: each tensor is the leading
/// slice of the source's along every axis; the fused projection of q, k and v, [3·heads·d, in], is seen as (3, heads,
/// d, in), so that leading heads are kept. All rests on names and shapes, so it serves every tower whose names are
/// open_clip's.
public struct Inheritance: Sendable {
  /// One tensor of the student, and that of the source of which it is the leading part.
  public struct Cut: Sendable, Equatable {
    public let name: String
    public let shape: Shape
    public let source: String
    public let sourceShape: Shape
    /// Equal parts of the first axis that are cut each by itself: 3 for q, k and v.
    public let parts: Int
  }

  /// One stack of blocks: which of the source's blocks each of the student's comes from.
  public struct Stack: Sendable, Equatable {
    public let name: String
    public let blocks: [Int]
    public let sourceCount: Int
  }

  public let cuts: [Cut]
  public let stacks: [Stack]

  /// Plans the cuts of the given towers.
  ///
  /// - Throws: `InheritanceError`, which lists every tensor that cannot be cut, with what to change.
  public init(from source: CLIPConfig, to student: CLIPConfig, towers: Towers = .both) throws(InheritanceError) {
    try self.init(
      from: InheritanceSide(source), to: InheritanceSide(student), towers: towers)
  }

  init(from source: InheritanceSide, to student: InheritanceSide, towers: Towers) throws(InheritanceError) {
    var cuts: [Cut] = []
    var problems: [String] = []
    let wanted = student.entries.filter { towers.contains($0.name) }
    let sameKind = source.kind == student.kind
    if towers.image, !sameKind {
      problems.append(
        "visual: the source's image tower is a \(source.kind) and the student's a \(student.kind), and neither can be cut "
          + "from the other; set init.towers to text")
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

  private static func stacks(
    from source: InheritanceSide, to student: InheritanceSide, towers: Towers
  ) -> [Stack] {
    student.stacks.sorted { $0.key < $1.key }.compactMap { name, count in
      guard towers.contains(name), let deep = source.stacks[name] else { return nil }
      let stride = deep / count
      return Stack(name: name, blocks: stride == 0 ? [] : (0..<count).map { $0 * stride }, sourceCount: deep)
    }
  }

  /// Why a tensor is no leading part of its source, with what to change; nil where it is.
  private static func obstacle(
    to cut: Cut, from source: InheritanceSide, _ student: InheritanceSide
  ) -> String? {
    let (shape, from) = (cut.shape.array, cut.sourceShape.array)
    guard shape.count == from.count else { return "they have other axes" }
    let visual = cut.name.hasPrefix("visual.")
    let section = visual ? "vision_cfg" : "text_cfg"
    if shape.count == 4, shape[2...] != from[2...] {
      return "a kernel of \(shape[2])×\(shape[3]) cannot be cut from one of \(from[2])×\(from[3]); "
        + "set vision_cfg.patch_size to \(from[2]), or init.towers to text"
    }
    if visual, cut.name.hasSuffix("positional_embedding"), shape[0] != from[0] {
      return "the positions are those of another grid; give vision_cfg.image_size and patch_size as the source has them"
    }
    if cut.name == "token_embedding.weight", shape[0] != from[0] {
      return
        "the vocabularies differ, so the same ids mean other words; take the source's vocabulary, or set init.towers "
        + "to image"
    }
    if Self.isHeaded(cut.name) {
      let (wide, sourceWide) = visual ? (student.visualHead, source.visualHead) : (student.textHead, source.textHead)
      if wide != sourceWide {
        return "heads \(wide) wide cannot be cut from heads \(sourceWide) wide; set "
          + (visual ? "vision_cfg.head_width to \(sourceWide)" : "text_cfg.heads to text_cfg.width / \(sourceWide)")
      }
    }
    if let axis = shape.indices.first(where: { shape[$0] > from[$0] }) {
      return "\(shape[axis]) exceeds the source's \(from[axis]); make \(section) no wider than the source"
        + (cut.name.hasSuffix("proj") ? ", and embed_dim no larger" : "")
    }
    return nil
  }

  /// Whether an axis of the tensor is one of heads.
  private static func isHeaded(_ name: String) -> Bool {
    name.contains(".attn.in_proj") || name.hasSuffix(".attn.out_proj.weight")
      || (name.contains(".attnpool.") && name.contains("_proj."))
  }

  /// Fills the student's parameters and buffers; those of no cut stay as they are.
  public func apply<S: Scalar>(from source: ParameterStore<S>, to student: ParameterStore<S>) {
    for cut in cuts {
      if let from = source.entry(named: cut.source), let to = student.entry(named: cut.name) {
        cut.take(from: source.value(of: from), into: student.value(of: to))
      } else if let from = source.buffer(named: cut.source), let to = student.buffer(named: cut.name) {
        cut.take(from: source.value(of: from), into: student.value(of: to))
      } else {
        preconditionFailure("\(cut.name) from \(cut.source): not the models of the plan")
      }
    }
  }
}

extension Inheritance.Cut {
  /// target ← the leading part of `whole`.
  func take<S: Scalar>(from whole: Tensor<S>, into target: Tensor<S>) {
    precondition(whole.shape == sourceShape && target.shape == shape, "\(whole.shape) into \(target.shape) for \(name)")
    let (to, from) = (Extents(shape, parts), Extents(sourceShape, parts))
    for part in 0..<parts {
      for row in 0..<to.rows {
        for middle in 0..<to.middle {
          let start = from.start(part, row, middle)
          copy(
            whole.slice(start..<start + to.run),
            into: target.slice(to.start(part, row, middle)..<to.start(part, row, middle) + to.run))
        }
      }
    }
  }

  /// A shape as [parts, rows, middle, run]; numbers of one run lie together in target and source, for the axes behind
  /// the second are never cut.
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

    func start(_ part: Int, _ row: Int, _ at: Int) -> Int { ((part * rows + row) * middle + at) * run }
  }
}
