public import Settings
public import Tensor

/// What a term of the objective looks at.
public struct TermNeeds: OptionSet, Sendable {
  public let rawValue: Int

  public init(rawValue: Int) { self.rawValue = rawValue }

  /// The teacher's embeddings themselves; of several teachers, the first one's alone.
  public static let teacherEmbeddings = TermNeeds(rawValue: 1)
  /// Softmaxes of the teacher's similarities; of several teachers, the mean of theirs.
  public static let teacherSoftmaxes = TermNeeds(rawValue: 2)
  /// The student's rows in the teacher's width: this rank's, or those of all ranks.
  public static let projection = TermNeeds(rawValue: 4)
  public static let globalProjection: TermNeeds = [.projection, TermNeeds(rawValue: 8)]

  /// Whether there must be a teacher.
  public var teacher: Bool { !isDisjoint(with: [.teacherEmbeddings, .teacherSoftmaxes]) }
}

/// The settings of one term of the objective, and what everybody else must know of it: run files, validation,
/// estimates, ensembles, logs and reports ask the registry's terms, and know none by name.
///
/// A new term is a file with its settings and its mathematics, and a line in `TermRegistry.all`.
public protocol TermSettings: Sendable {
  /// The key of the term's weight in the run file's section `objective`; its name in messages, logs and reports.
  static var key: String { get }
  static var needs: TermNeeds { get }

  /// λ, by which the term's value is multiplied; 0 leaves the term out.
  var weight: Scheduled<Double> { get set }

  /// The settings with a weight of 0.
  init()

  /// Names the keys of the term's own options, which stand beside its weight.
  mutating func options(_ map: FieldMap)

  /// What is wrong with the options in themselves, by the path of the key below `objective`.
  var mistakes: [(path: String, text: String)] { get }

  /// The names in `ObjectiveReport` of those of its values whose weight changes over the steps.
  var scheduled: [String] { get }

  /// The keys of the terms whose rows' losses weigh this one's rows: in the step to which the settings were advanced,
  /// and in any step.
  var weighedBy: [String] { get }
  var everWeighedBy: [String] { get }

  /// The products that one modality's rows cost, and for how many modalities.
  func products(_ size: ObjectiveSize) -> TermProducts

  /// How many numbers the term keeps beyond what all terms share.
  func numbers(_ size: ObjectiveSize) -> Int

  /// The term itself. Parameters of its own are declared here, in the order in which the layout shall have them.
  func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S>
}

extension TermSettings {
  public mutating func options(_ map: FieldMap) {}
  public var mistakes: [(path: String, text: String)] { [] }
  public var scheduled: [String] { weight.changes ? [Self.key] : [] }
  public var weighedBy: [String] { [] }
  public var everWeighedBy: [String] { weighedBy }
  public func numbers(_ size: ObjectiveSize) -> Int { 0 }
}

/// The sizes on which a term's cost depends.
public struct ObjectiveSize: Sendable {
  /// b, the rows of one rank, of N.
  public var rows: Int
  public var count: Int
  /// The widths of student and teacher; equal where there is no teacher.
  public var student: Int
  public var teacher: Int

  public init(rows: Int, count: Int, student: Int, teacher: Int) {
    (self.rows, self.count, self.student, self.teacher) = (rows, count, student, teacher)
  }

  /// The numbers of both modalities' rows of a width: of all ranks the values, of this one the gradients.
  public func embeddings(_ width: Int) -> Int { 2 * (count + rows) * width }
}

/// The matrix products of a term: local rows against all rows, by the width of the rows.
public struct TermProducts: Sendable {
  /// The sum of the widths whose similarities are computed, and of those whose gradients are.
  public var similarities: Int
  public var gradients: Int
  public var modalities: Int

  public init(similarities: Int, gradients: Int, modalities: Int = 2) {
    (self.similarities, self.gradients, self.modalities) = (similarities, gradients, modalities)
  }

  /// Operations of a step; multiply-adds count twice. Similarities are computed twice: for the softmaxes, and again for
  /// the gradient.
  public func operations(_ size: ObjectiveSize) -> Double { operations(size, 2 * similarities + gradients) }

  /// The same if no tile were computed twice.
  public func operationsOnce(_ size: ObjectiveSize) -> Double { operations(size, similarities + gradients) }

  private func operations(_ size: ObjectiveSize, _ widths: Int) -> Double {
    2 * Double(size.rows) * Double(size.count) * Double(modalities) * Double(widths)
  }
}

/// One term of the objective, in three stages. All active terms go through each stage together, since one term's losses
/// may weigh another's rows.
///
/// Every stage is entered by all ranks in the same order.
public protocol DistillationTerm<S>: AnyObject {
  associatedtype S: Scalar

  /// First stage: finds the loss of each local row, and lets each weigh λ/2N.
  func rowLosses(_ context: LossContext<S>) throws

  /// Second stage: sets what rows weigh where that depends on losses, the term's own or another's.
  func rowWeights(_ context: LossContext<S>) throws

  /// Third stage: adds λ · ∂L to the gradients of the local rows, of the scales and of the term's own parameters;
  /// returns what the term came to.
  func accumulate(_ context: LossContext<S>) throws -> TermOutcome

  /// The loss of each local row [b] after the first stage, for terms whose rows they weigh; nil where the term has no
  /// such losses.
  var localLosses: Modalities<Tensor<S>>? { get }

  /// What the local rows weigh; nil where no other term may change it.
  var weights: Modalities<RowVector<S>>? { get }
}

extension DistillationTerm {
  public func rowLosses(_ context: LossContext<S>) throws {}
  public func rowWeights(_ context: LossContext<S>) throws {}
  public var localLosses: Modalities<Tensor<S>>? { nil }
  public var weights: Modalities<RowVector<S>>? { nil }
}

/// What a term came to in a step.
public struct TermOutcome: Sendable {
  /// This rank's share of each value, which is summed over the ranks.
  var shares: [ObjectiveReport.Term] = []
  /// Values that are the same on every rank already.
  var values: [ObjectiveReport.Term] = []
  var anchors: [ObjectiveReport.Anchors] = []
  var notes: [String] = []

  init() {}

  /// The usual outcome: one value under the term's key, of which this rank has a share.
  init<Settings: TermSettings>(_ settings: Settings, share: Double) {
    shares = [.init(name: Settings.key, weight: settings.weight.wrappedValue, value: share)]
  }
}
