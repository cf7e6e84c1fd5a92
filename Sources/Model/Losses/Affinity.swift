public import Settings
public import Tensor

/// The settings of TinyCLIP's affinity mimicking.
public struct AffinitySettings: TermSettings {
  public static let key = "affinity"
  public static let needs: TermNeeds = [.teacherSoftmaxes, .teacherPairs]
  public var weight = Scheduled(0.0)
  /// The scale of both models' similarities; nil for each model's own.
  public var scale: Scheduled<Double>?

  public mutating func options(_ map: FieldMap) { map.optional("affinity_scale", &scale, none: "own") }

  public var mistakes: [Mistake] { scale?.mistakes("affinity_scale", expected: "own, or more than 0") { $0 > 0 } ?? [] }

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(similarities: size.student + size.teacher, gradients: size.student)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> { Affinity(parameters) }
}

/// TinyCLIP's affinity mimicking: soft cross entropy of the cross-modal softmaxes, from which the teacher's entropy is
/// not subtracted.
///
/// L = 1/(2N) Σ_i [ −Σ_j q_ij ln p_ij + the same for captions against images ], with p the softmax of α u vᵀ and q that
/// of β x yᵀ. A fixed scale replaces both α and β, and then the term has no gradient for the student's scale. The
/// gradients are CRD's, because the entropy does not depend on the student.
final class Affinity<S: Scalar>: DistillationTerm {
  var weights: Modalities<GlobalRows<S>>? { divergence.weights }

  private let divergence: CRD<S>
  private var fixed: S?
  private var share = 0.0

  init(_ parameters: ObjectiveParameters<S>) { divergence = CRD(parameters.tiles) }

  func rowLosses(_ context: LossContext<S>) throws {
    fixed = context.options[AffinitySettings.self].scale.map { S($0.wrappedValue) }
    let teachers = context.teachers.map { $0.with(scale: fixed ?? $0.scale) }
    let share = try divergence.measure(scale: fixed ?? context.scale, teachers, context)
    self.share = share + divergence.entropy(context.batch)
  }

  func accumulate(_ context: LossContext<S>) -> TermOutcome {
    let gradient = divergence.accumulate(scale: fixed ?? context.scale, context)
    return TermOutcome(share: share, scaleGradient: fixed == nil ? gradient : 0)
  }
}
