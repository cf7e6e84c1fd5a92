internal import Tensor

/// TinyCLIP's affinity mimicking: soft cross entropy of the cross-modal softmaxes, without the teacher's entropy taken
/// off.
///
/// L = 1/(2N) Σ_i [ −Σ_j q_ij ln p_ij + the same of captions against pictures ], p of α u vᵀ, q of β x yᵀ; with a fixed
/// scale it is both α and β, and no scale learns from it. Its gradients are CRD's, for the entropy does not depend on
/// the student.
final class Affinity<S: Scalar> {
  private let divergence: CRD<S>
  private let weights = Modalities(image: RowVector<S>(), text: RowVector<S>())

  init(_ tiles: Tiles<S>) { divergence = CRD(tiles) }

  /// Adds weight · ∂L to this rank's rows; returns this rank's shares of L and of weight · ∂L/∂(student scale).
  func accumulate(
    _ student: Modalities<UnitRows<S>>, scale: S, _ teachers: [Taught<S>], weight: Double, _ share: BatchShare,
    _ ranks: some Ranks<S>
  ) throws -> (value: Double, slope: Double) {
    let value = try divergence.measure(student, scale: scale, teachers, share, ranks) + divergence.entropy
    weights.image.set(S(weight / Double(2 * share.count)), share)
    weights.text.set(S(weight / Double(2 * share.count)), share)
    return (value, divergence.accumulate(student, scale: scale, weights: weights))
  }
}
