public import Tensor

/// What the terms of an objective share in a step: the rows of student and teachers, the scales, and the other ranks.
public final class LossContext<S: Scalar> {
  /// What holds in this step.
  let options: ObjectiveOptions
  let batch: LocalBatch
  let ranks: any Ranks<S>
  /// u and v.
  let student: Modalities<UnitRows<S>>
  /// ũ and ṽ: the student's rows in the teacher's width, which are u and v where the widths agree.
  let projected: Modalities<UnitRows<S>>
  /// The first teacher, and those whose softmaxes are averaged with its.
  let teachers: [Teacher<S>]
  /// α.
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

  /// Returns the active term of a key, whose losses weigh another's rows.
  func term(_ key: String) -> any DistillationTerm<S> {
    guard let term = terms[key] else { preconditionFailure("\(key) weighs rows without having been declared") }
    return term
  }

  /// What each row of a mean over both modalities weighs: λ/2N.
  func share(of weight: Double) -> S { S(weight / Double(2 * batch.count)) }
}
