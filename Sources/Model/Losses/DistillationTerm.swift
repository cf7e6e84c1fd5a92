public import Tensor

/// One term of the objective, in three stages: what each row's loss is, what each row weighs, and what gradient
/// follows. All active terms go through each stage together, because one term's losses may weigh another's rows.
///
/// All ranks enter the stages in the same order.
public protocol DistillationTerm<S>: AnyObject {
  associatedtype S: Scalar

  /// First stage: computes the loss of each local row.
  func rowLosses(_ context: LossContext<S>) throws
  /// Second stage: sets those row weights that depend on losses, the term's own or another's. All of `weights` are
  /// λ/2N before it.
  func rowWeights(_ context: LossContext<S>) throws
  /// Third stage: adds λ · ∂L to the gradients of the local rows and of the term's own parameters, and returns the
  /// term's value and the gradient of the student's scale.
  func accumulate(_ context: LossContext<S>) throws -> TermOutcome
  /// The loss of each local row [b] after the first stage, from which another term may derive its row weights; nil for
  /// terms that have no loss per row.
  var localLosses: Modalities<Tensor<S>>? { get }
  /// The weights of the local rows; nil if no other term may change them.
  var weights: Modalities<GlobalRows<S>>? { get }
}

extension DistillationTerm {
  public func rowLosses(_ context: LossContext<S>) throws {}
  public func rowWeights(_ context: LossContext<S>) throws {}
  public var localLosses: Modalities<Tensor<S>>? { nil }
  public var weights: Modalities<GlobalRows<S>>? { nil }
}

/// The results of a term in one step.
public struct TermOutcome: Sendable {
  /// This rank's share of the value under the term's key, which is summed over the ranks.
  var share: Double?
  /// This rank's share of ∂L/∂α.
  var scaleGradient = 0.0
  /// Values under other names, already the same on every rank.
  var values: [ObjectiveReport.Term] = []
  var anchors: [ObjectiveReport.Anchors] = []
  var notes: [String] = []
}

/// The data that all terms of an objective share in a step: the rows of student and teachers, the scales, and the
/// other ranks.
public struct LossContext<S: Scalar> {
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
  /// The active terms.
  let terms: [String: any DistillationTerm<S>]
  private let rowFactors = RowFactors()

  /// Returns the active term with this key, whose losses weigh another term's rows.
  func term(_ key: String) -> any DistillationTerm<S> {
    guard let term = terms[key] else { preconditionFailure("\(key) weighs rows without having been declared") }
    return term
  }

  /// The factors of the local rows of some terms, which one term sets in the second stage.
  private final class RowFactors { var byKey: [String: [Modality: [Double]]] = [:] }

  /// Multiplies the weights of a modality's local rows in other terms by factors of mean 1 over the global batch, which
  /// have no gradient. Every rank calls it.
  func multiplyRows(of keys: [String], _ modality: Modality, by factors: [Double]) throws {
    for key in keys {
      rowFactors.byKey[key, default: [:]][modality] = factors
      guard let weights = terms[key]?.weights?[modality] else { continue }
      for (i, factor) in factors.enumerated() { weights.own[i] *= S(factor) }
      try weights.gather(ranks)
    }
  }

  /// Returns the factors [b] of a term's local rows; nil if they are all 1.
  func rowFactors(of key: String, _ modality: Modality) -> [Double]? { rowFactors.byKey[key]?[modality] }

  /// Returns this rank's share of 1/2N Σ factor · loss over both modalities' rows; nil if all factors are 1.
  func multipliedShare(of key: String, _ losses: Modalities<Tensor<S>>) -> Double? {
    guard rowFactors.byKey[key] != nil else { return nil }
    let sums = Modality.allCases.map { modality in
      let factors = rowFactors(of: key, modality)
      return losses[modality].array.enumerated().reduce(0.0) { $0 + (factors?[$1.offset] ?? 1) * Double($1.element) }
    }
    return (sums[0] + sums[1]) / Double(2 * batch.count)
  }
}
