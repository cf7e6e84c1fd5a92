public import Settings
public import Tensor

/// The data that a term of the objective reads.
public struct TermNeeds: OptionSet, Sendable {
  public let rawValue: Int

  public init(rawValue: Int) { self.rawValue = rawValue }

  /// The term reads the teacher's embeddings; with several teachers, those of the first.
  public static let teacherEmbeddings = TermNeeds(rawValue: 1)
  /// The term reads softmaxes of the teacher's similarities; with several teachers, their mean.
  public static let teacherSoftmaxes = TermNeeds(rawValue: 2)
  /// The term reads this rank's student rows in the teacher's width.
  public static let projection = TermNeeds(rawValue: 4)
  /// The term reads all ranks' student rows in the teacher's width.
  public static let globalProjection: TermNeeds = [.projection, TermNeeds(rawValue: 8)]

  /// The term compares the teacher's images with its captions, so both must lie in one space.
  public static let teacherPairs = TermNeeds(rawValue: 16)

  /// True if the run must have a teacher.
  public var teacher: Bool { !isDisjoint(with: [.teacherEmbeddings, .teacherSoftmaxes]) }
}

/// The settings and costs of one term of the objective.
///
/// Run files, validation, estimates, ensembles, logs and reports read them through the registry and know no term by
/// name. A new term is one file with its settings and its mathematics, and one line in `TermRegistry.all`.
public protocol TermSettings: Sendable {
  /// The key of the term's weight in the run file's section `objective`, and its name in messages, logs and reports.
  static var key: String { get }
  static var needs: TermNeeds { get }
  /// λ, the factor of the term's value in the total; 0 leaves the term out.
  var weight: Scheduled<Double> { get set }
  /// Names the keys of the term's own options, which stand beside its weight.
  mutating func options(_ map: FieldMap)
  /// The options' invalid values, with paths below `objective`.
  var mistakes: [Mistake] { get }
  /// The names, as `ObjectiveReport` has them, of those of the term's values whose weight changes over the steps.
  var scheduled: [String] { get }
  /// True for those of the teacher's embeddings that the term reads in some step.
  var teacherSides: Modalities<Bool> { get }
  /// True if the teacher's own scale multiplies its cosines in some step.
  var readsTeacherScale: Bool { get }
  /// The keys of the terms whose row losses set the weights of this term's rows, in the step to which the settings
  /// were advanced.
  var weighedBy: [String] { get }
  /// The same keys, for all steps together.
  var everWeighedBy: [String] { get }
  /// The keys of the terms whose rows this term's weights multiply, its own among them if it has any.
  var multiplies: [String] { get }
  /// The factor by which λ, where it weighs a distance of unit rows, weighs their mean 1 − cosine; nil for other terms.
  func cosineFactor(teacherWidth: Int) -> Double?
  /// The initial value of the model's `logit_bias`, if the term learns it; nil for terms without a bias.
  var initialLogitBias: Double? { get }
  /// The matrix products of one modality's rows, and the number of modalities.
  func products(_ size: ObjectiveSize) -> TermProducts
  /// The number of scalars that the term keeps in addition to those that all terms share.
  func numbers(_ size: ObjectiveSize) -> Int
  /// Creates the term and declares its parameters, in the order in which they take their places in the layout.
  func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S>
}

extension TermSettings {
  public mutating func options(_ map: FieldMap) {}
  public var mistakes: [Mistake] { [] }
  public var scheduled: [String] { weight.changes ? [key] : [] }
  public var teacherSides: Modalities<Bool> { Modalities { needs.teacher } }
  public var readsTeacherScale: Bool { needs.contains(.teacherSoftmaxes) }
  public var weighedBy: [String] { [] }
  public var everWeighedBy: [String] { weighedBy }
  public var multiplies: [String] { [] }
  public func cosineFactor(teacherWidth: Int) -> Double? { nil }
  public var initialLogitBias: Double? { nil }
  public func numbers(_ size: ObjectiveSize) -> Int { 0 }
  var key: String { Self.key }
  var needs: TermNeeds { Self.needs }
}

/// The sizes on which a term's cost depends.
public struct ObjectiveSize: Sendable {
  /// b, the number of this rank's rows.
  public var rows: Int
  /// N, the number of rows of all ranks.
  public var count: Int
  /// The width of the student's embeddings.
  public var student: Int
  /// The width of the teacher's embeddings; the student's if there is no teacher.
  public var teacher: Int

  public init(rows: Int, count: Int, student: Int, teacher: Int) {
    (self.rows, self.count, self.student, self.teacher) = (rows, count, student, teacher)
  }

  /// The number of scalars in both modalities' rows of a width: values [N, width] and gradients [b, width].
  public func embeddings(_ width: Int) -> Int { 2 * (count + rows) * width }
}

/// The matrix products of a term, between local rows [b, width] and global rows [N, width].
public struct TermProducts: Sendable {
  /// The sum of the widths of all rows whose similarities are computed; nil if it is that of `gradients`.
  var similarities: Int?
  /// The sum of the widths of all rows whose gradients are computed.
  var gradients: Int
  var modalities = 2
  /// The number of times that similarities are computed: usually once for sums over whole rows, and again for the
  /// gradient.
  var passes = 2

  /// The operations of a step; a multiply-add counts as two. With `once` every similarity is computed only once.
  func operations(_ size: ObjectiveSize, once: Bool = false) -> Double {
    let widths = (once ? 1 : passes) * (similarities ?? gradients) + gradients
    return 2 * Double(size.rows) * Double(size.count) * Double(modalities) * Double(widths)
  }
}

/// All terms of the objective.
public enum TermRegistry {
  /// The terms with their default settings, in the order in which they add their gradients and stand in run files. Sums
  /// of floats depend on it, so a new term goes to the end.
  static let all: [any TermSettings] = [
    IntraSettings(), ContrastiveSettings(), CRDSettings(), AffinitySettings(), FDSettings(), ICLSettings(),
    CrossKDSettings(), GDSettings(), AFDSettings(), RKDSettings(), SigLIPSettings(), GramSettings(),
  ]
}
