public import Settings

/// The loss that training minimises, a sum of weighted terms over the global batch: a preset, in which any weight,
/// temperature or switch may be overridden. The short form `objective: NAME` selects a preset.
///
/// The preset's values are the defaults of all other keys, and the resolved run file spells them out. Symbols: u and v
/// are the student's unit rows of images and captions; x and y are the teacher's; ũ and ṽ are the student's in the
/// teacher's width (mapped by heads if the widths differ); α and β are the scales of student and teacher.
public struct ObjectiveOptions: Section {
  public private(set) var preset = ObjectivePreset.clip
  /// The settings of all terms, in the registry's order.
  private(set) var all = TermRegistry.all
  /// The student's fixed scale, at whose logarithm `logit_scale` is held; nil if the scale is learned.
  public var fixedLogitScale: Scheduled<Double>?

  /// Creates an objective of CLIP's loss alone.
  public init() {}

  public init(_ preset: ObjectivePreset) {
    self.preset = preset
    preset.set(&self)
  }

  /// The settings of one term.
  public subscript<Settings: TermSettings>(_ type: Settings.Type) -> Settings {
    get {
      for case let settings as Settings in all { return settings }
      preconditionFailure("\(Settings.key) is not in the registry of terms")
    }
    set { for index in all.indices where all[index] is Settings { all[index] = newValue } }
  }

  public mutating func fields(_ map: FieldMap) {
    map.field("preset", &preset)
    if map.isReading { self = ObjectiveOptions(preset) }
    for index in all.indices { map.field(all[index].key, &all[index].weight) }
    for index in all.indices { all[index].options(map) }
    map.optional("logit_scale", &fixedLogitScale, none: "learned")
  }

  public static var expectation: String { "the name of a preset, or a section" }
  public static func shorthandKey(_ text: String) -> String? { "preset" }

  /// Returns true if both are the same loss in every step, even if they began with different presets.
  public static func == (one: ObjectiveOptions, other: ObjectiveOptions) -> Bool {
    var other = other
    other.preset = one.preset
    return one.tree == other.tree
  }
}

// MARK: Queries over all terms

extension ObjectiveOptions {
  /// The terms that have a weight in some step.
  var used: [any TermSettings] { all.filter(\.weight.isEverUsed) }
  /// The weights of the terms that have one in some step.
  public var weights: [(key: String, weight: Scheduled<Double>)] { used.map { (key: $0.key, weight: $0.weight) } }
  /// Returns λ of a term in this step.
  func weight(of key: String) -> Double { all.first { $0.key == key }?.weight.wrappedValue ?? 0 }

  /// Returns true if a term has a weight in this step, or if its row losses weigh the rows of a term that has one.
  func isActive(_ key: String) -> Bool {
    all.contains { $0.weight.wrappedValue != 0 && ($0.key == key || $0.weighedBy.contains(key)) }
  }

  /// The terms that are active in some step, and so have to be created.
  var declared: [any TermSettings] {
    let sources = used.flatMap(\.everWeighedBy)
    return all.filter { $0.weight.isEverUsed || sources.contains($0.key) }
  }

  /// The needs of all terms that are used in some step.
  public var needs: TermNeeds { used.reduce([]) { $0.union($1.needs) } }
  /// True if any term needs a teacher.
  public var needsTeacher: Bool { needs.teacher }
  /// The initial value of the model's `logit_bias`; nil if no term that is used in some step learns it.
  public var initialLogitBias: Double? { used.compactMap(\.initialLogitBias).first }
  /// Returns the keys of those terms that are used in some step and have all of these needs.
  public func keys(needing needs: TermNeeds) -> [String] { used.filter { $0.needs.isSuperset(of: needs) }.map(\.key) }

  /// Returns the terms that are used in some step and have all of these needs, and that cannot learn from a teacher
  /// without embeddings of images or captions or without a scale, each with what it lacks.
  public func refusals(
    of teacher: (images: Bool, captions: Bool, scale: Bool), needing needs: TermNeeds = []
  ) -> [(key: String, reason: String)] {
    declared.filter { $0.needs.isSuperset(of: needs) }.compactMap { term -> (key: String, reason: String)? in
      let sides = term.teacherSides
      if sides.image, !teacher.images { return (term.key, "reads the teacher's embeddings of images") }
      if sides.text, !teacher.captions { return (term.key, "reads the teacher's embeddings of captions") }
      guard !teacher.scale else { return nil }
      if term.needs.contains(.teacherPairs) { return (term.key, "compares the teacher's images with its captions") }
      return term.readsTeacherScale ? (term.key, "multiplies the teacher's cosines by its logit_scale") : nil
    }
  }

  /// Returns the keys of all terms in the registry that have all of these needs.
  public static func allKeys(needing needs: TermNeeds = []) -> [String] {
    TermRegistry.all.filter { $0.needs.isSuperset(of: needs) }.map(\.key)
  }

  /// The names, as `ObjectiveReport` has them, of the values whose weights change over the steps.
  public var scheduledTerms: Set<String> { Set(all.flatMap(\.scheduled)) }

  /// Returns the operations of a step's matrix products, a multiply-add as two; with `once` no tile is computed twice.
  public func operations(_ size: ObjectiveSize, once: Bool = false) -> Double {
    used.reduce(0) { $0 + $1.products(size).operations(size, once: once) }
  }

  /// Returns the number of scalars that the objective keeps: embeddings of all ranks, gradients of local rows, tiles,
  /// and the terms' own memory. `others` are the widths of the teachers after the first.
  public func numbers(_ size: ObjectiveSize, others: [Int]) -> Int {
    let tile = Tiles<Float>()
    // Averaging the softmaxes of several teachers takes two more tiles than those of student and teacher.
    let tiles = (others.isEmpty ? 2 : 4) * min(tile.rows, size.rows) * min(tile.columns, size.count)
    var numbers = size.embeddings(size.student) + tiles
    guard needsTeacher else { return numbers }
    numbers += 2 * size.count * others.reduce(size.teacher, +)
    if size.teacher != size.student, needs.contains(.projection) {
      numbers += size.embeddings(size.teacher) + 2 * size.rows * size.teacher
    }
    return used.reduce(numbers) { $0 + $1.numbers(size) }
  }

  /// Returns the number of further scalars that are kept if the gradients of the terms are measured.
  public func measuredNumbers(_ size: ObjectiveSize) -> Int {
    let hasHeads = size.teacher != size.student && needs.contains(.projection)
    return 2 * size.rows * (size.student + (hasHeads ? size.teacher : 0))
  }

  /// Returns those weights that weigh cosines, with the factor that converts them: λ · factor weighs each modality's
  /// mean 1 − cosine.
  public func cosineWeights(teacherWidth: Int) -> [(key: String, weight: Scheduled<Double>, factor: Double)] {
    used.compactMap { term in
      term.cosineFactor(teacherWidth: teacherWidth).map { (key: term.key, weight: term.weight, factor: $0) }
    }
  }
}

// MARK: Mistakes

extension ObjectiveOptions {
  /// The invalid values.
  public var mistakes: [Mistake] {
    var found = all.flatMap { term in term.weight.mistakes(term.key, expected: "a weight of 0 or more") { $0 >= 0 } }
    if used.isEmpty {
      let keys = Self.allKeys().joined(separator: ", ")
      found.append(("", "every weight is 0, so nothing is learned; give one of \(keys) a weight"))
    }
    found += all.flatMap(\.mistakes)
    for term in used {
      for key in term.multiplies where !used.contains(where: { $0.key == key }) {
        let change = "give objective.\(key) a weight, or do not name it"
        found.append((term.key, "its weights multiply the rows of \(key), which has no weight; \(change)"))
      }
    }
    // The parameter is kept within [0, ln 100] whether it is learned or not.
    found += fixedLogitScale?.mistakes("logit_scale", expected: "learned, or 1 to 100") { (1...100).contains($0) } ?? []
    return found.map { ($0.path.isEmpty ? "objective" : "objective.\($0.path)", $0.text) }
  }

  /// Returns a warning for every schedule whose last point lies beyond a run of `totalSteps` steps.
  public func warnings(totalSteps: Int) -> [String] {
    Self.lastPoints(of: tree, "objective").filter { $0.step >= totalSteps }.map {
      "\($0.path): the last point (step \($0.step)) is not reached, for steps are 0 to \(totalSteps - 1); move it, or "
        + "train longer"
    }
  }

  /// Returns every key with a list of points, and the step of its last point.
  private static func lastPoints(of tree: RunTree, _ path: String) -> [(path: String, step: Int)] {
    switch tree {
    case .scalar: return []
    case .section(let entries): return entries.flatMap { lastPoints(of: $0.value, "\(path).\($0.key)") }
    case .list(let points):
      guard case .section(let point) = points.last, case .scalar(let step, _) = point.first?.value else { return [] }
      return Int(step).map { [(path, $0)] } ?? []
    }
  }
}
