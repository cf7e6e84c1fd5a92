internal import Settings
public import Tensor

/// One term of the objective, in three stages. All active terms go through each stage together, because one term's
/// losses may weigh another's rows.
///
/// All ranks enter the stages in the same order.
public protocol DistillationTerm<S>: AnyObject {
  associatedtype S: Scalar

  /// First stage: computes the loss of each local row, and gives each row the weight λ/2N.
  func rowLosses(_ context: LossContext<S>) throws

  /// Second stage: sets those row weights that depend on losses, the term's own or another's.
  func rowWeights(_ context: LossContext<S>) throws

  /// Third stage: adds λ · ∂L to the gradients of the local rows, of the scales and of the term's own parameters, and
  /// returns the term's values.
  func accumulate(_ context: LossContext<S>) throws -> TermOutcome

  /// The loss of each local row [b] after the first stage, from which another term may derive its row weights; nil for
  /// terms that have no loss per row.
  var localLosses: Modalities<Tensor<S>>? { get }

  /// The weights of the local rows; nil if no other term may change them.
  var weights: Modalities<RowVector<S>>? { get }
}

extension DistillationTerm {
  public func rowLosses(_ context: LossContext<S>) throws {}
  public func rowWeights(_ context: LossContext<S>) throws {}
  public var localLosses: Modalities<Tensor<S>>? { nil }
  public var weights: Modalities<RowVector<S>>? { nil }
}

/// The values of a term in one step.
public struct TermOutcome: Sendable {
  /// This rank's shares of values, which are summed over the ranks.
  var shares: [ObjectiveReport.Term] = []
  /// Values that are already the same on every rank.
  var values: [ObjectiveReport.Term] = []
  var anchors: [ObjectiveReport.Anchors] = []
  var notes: [String] = []

  init() {}

  /// Creates the usual outcome: one value under the term's key, of which this rank has a share.
  init<Settings: TermSettings>(_ settings: Settings, share: Double) {
    shares = [.init(name: Settings.key, weight: settings.weight.wrappedValue, value: share)]
  }
}

/// The data that all terms of an objective share in a step: the rows of student and teachers, the scales, and the
/// other ranks.
public final class LossContext<S: Scalar> {
  /// The options of this step.
  let options: ObjectiveOptions
  let batch: LocalBatch
  let ranks: any Ranks<S>
  /// u and v: the student's unit rows of images and captions.
  let student: Modalities<UnitRows<S>>
  /// ũ and ṽ: the student's rows in the teacher's width; u and v themselves if the widths agree.
  let projected: Modalities<UnitRows<S>>
  /// The first teacher, and behind it those whose softmaxes are averaged with its own.
  let teachers: [Teacher<S>]
  /// α, the scale of the student's similarities.
  let scale: S
  /// This rank's share of ∂L/∂α, to which terms add.
  var scaleGradient = 0.0

  private let terms: [String: any DistillationTerm<S>]

  init(
    _ options: ObjectiveOptions, _ batch: LocalBatch, _ ranks: any Ranks<S>,
    rows: (student: Modalities<UnitRows<S>>, projected: Modalities<UnitRows<S>>), teachers: [Teacher<S>], scale: S,
    terms: [String: any DistillationTerm<S>]
  ) {
    (self.options, self.batch, self.ranks) = (options, batch, ranks)
    (student, projected) = rows
    (self.teachers, self.scale, self.terms) = (teachers, scale, terms)
  }

  /// Returns the active term with this key, whose losses weigh another term's rows.
  func term(_ key: String) -> any DistillationTerm<S> {
    guard let term = terms[key] else { preconditionFailure("\(key) weighs rows without having been declared") }
    return term
  }

  /// Returns λ/2N, the weight of each row in a mean over both modalities.
  func share(of weight: Double) -> S { S(weight / Double(2 * batch.count)) }
}
