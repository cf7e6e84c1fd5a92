public import Settings

/// What is minimised: a sum of weighted terms, each over the global batch: a preset, and any weight, temperature or
/// switch of it set otherwise. The short form `objective: NAME` is a preset.
///
/// The preset's own values are the defaults of all other keys, and stand in the resolved run. Words: u, v are the
/// student's unit rows of pictures and captions, x, y the teacher's, ũ, ṽ the student's in the teacher's width (through
/// heads where the widths differ), α and β the scales of student and teacher.
public struct ObjectiveOptions: Section {
  public private(set) var preset = ObjectivePreset.clip
  /// One of each of the registry's terms, in its order.
  private(set) var all = TermRegistry.all.map { $0.init() as any TermSettings }
  /// The student's scale e^logit_scale where it is not learned: the parameter is held at its logarithm.
  public var fixedLogitScale: Scheduled<Double>?

  /// CLIP's loss alone.
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
    set {
      for index in all.indices where all[index] is Settings { all[index] = newValue }
    }
  }

  public mutating func fields(_ map: FieldMap) {
    map.field("preset", &preset)
    if map.isReading { self = ObjectiveOptions(preset) }
    for index in all.indices { map.field(type(of: all[index]).key, &all[index].weight) }
    for index in all.indices { all[index].options(map) }
    map.optional("logit_scale", &fixedLogitScale, none: "learned")
  }

  public static var expectation: String { "the name of a preset, or a section" }

  public static func shorthandKey(_ text: String) -> String? { "preset" }

  /// Whether the same is minimised in every step, whatever preset the settings began with.
  public static func == (one: ObjectiveOptions, other: ObjectiveOptions) -> Bool {
    func own(_ options: ObjectiveOptions) -> RunTree {
      var options = options
      options.preset = .clip
      return options.tree
    }
    return own(one) == own(other)
  }
}

// MARK: What others ask of the terms

extension ObjectiveOptions {
  /// The terms that have a weight in some step.
  var used: [any TermSettings] { all.filter(\.weight.isEverUsed) }

  /// The keys of the terms that are computed in this step: those with a weight, and those whose rows' losses weigh the
  /// rows of one.
  func isActive(_ key: String) -> Bool {
    all.contains { $0.weight.wrappedValue != 0 && (type(of: $0).key == key || $0.weighedBy.contains(key)) }
  }

  /// The terms to be made: in some step each of them is active.
  var declared: [any TermSettings] {
    let sources = used.flatMap(\.everWeighedBy)
    return all.filter { $0.weight.isEverUsed || sources.contains(type(of: $0).key) }
  }

  /// What the terms need that are used in some step.
  public var needs: TermNeeds { used.reduce([]) { $0.union(type(of: $1).needs) } }

  /// Whether any term looks at a teacher.
  public var needsTeacher: Bool { needs.teacher }

  /// The keys of the terms that are used in some step and have all of these needs.
  public func keys(needing needs: TermNeeds) -> [String] {
    used.map { type(of: $0) }.filter { $0.needs.isSuperset(of: needs) }.map { $0.key }
  }

  /// The keys of all terms that there are and that have all of these needs.
  public static func allKeys(needing needs: TermNeeds = []) -> [String] {
    TermRegistry.all.filter { $0.needs.isSuperset(of: needs) }.map { $0.key }
  }

  /// The terms, in the words of `ObjectiveReport`, whose weights change over the steps.
  public var scheduledTerms: Set<String> { Set(all.flatMap(\.scheduled)) }

  /// Operations of the matrix products of a step; multiply-adds count twice.
  public func operations(_ size: ObjectiveSize) -> Double {
    used.reduce(0) { $0 + $1.products(size).operations(size) }
  }

  /// The same if no tile were computed twice.
  public func operationsOnce(_ size: ObjectiveSize) -> Double {
    used.reduce(0) { $0 + $1.products(size).operationsOnce(size) }
  }

  /// How many numbers the objective keeps: embeddings of all ranks, gradients of local rows, tiles of similarities, and
  /// what its terms need.
  ///
  /// - Parameter others: the widths of teachers beside the first.
  public func numbers(_ size: ObjectiveSize, others: [Int]) -> Int {
    let tile = Tiles<Float>()
    // Two beside those of student and teacher where softmaxes of several teachers are averaged.
    let tiles = (others.isEmpty ? 2 : 4) * min(tile.rows, size.rows) * min(tile.columns, size.count)
    var numbers = size.embeddings(size.student) + tiles
    guard needsTeacher else { return numbers }
    numbers += 2 * size.count * others.reduce(size.teacher, +)
    if size.teacher != size.student, needs.contains(.projection) {
      numbers += size.embeddings(size.teacher) + 2 * size.rows * size.teacher
    }
    return used.reduce(numbers) { $0 + $1.numbers(size) }
  }
}
