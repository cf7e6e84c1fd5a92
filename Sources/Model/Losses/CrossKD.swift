internal import Tensor

/// CLIP-KD's cross-KD: student anchors rank the teacher's rows of the other modality as the teacher's own anchors do.
///
/// L = 1/(2N) Σ_i [ KL(softmax_j β x_i·y_j ‖ softmax_j γ ũ_i·y_j) + KL(softmax_j β y_i·x_j ‖ softmax_j γ ṽ_i·x_j) ];
/// G = (1/2N)(p − q), dŨ = γ G Y. γ is ICL's.
final class CrossKD<S: Scalar> {
  private let strip: DivergenceStrip<S>
  private let weight = RowVector<S>()

  init(_ tiles: Tiles<S>) { strip = DivergenceStrip(tiles) }

  /// Adds weight · ∂L to this rank's rows; returns this rank's shares of L and of weight · ∂L/∂γ. Keys are the first
  /// teacher's, targets all teachers'.
  func accumulate(
    _ student: Modalities<UnitRows<S>>, scale: S, _ teachers: [Taught<S>], weight: Double, _ share: BatchShare
  ) -> (value: Double, slope: Double) {
    self.weight.set(S(weight / Double(2 * share.count)), share)
    var (value, slope) = (0.0, 0.0)
    for (anchors, taught) in [
      (student.image, teachers.map(\.across.image)), (student.text, teachers.map(\.across.text)),
    ] {
      let keys = taught[0].all
      strip.fold((anchors.own, keys), scale: scale, taught, share)
      value += sum(strip.rows.divergence) / Double(2 * share.count)
      slope += strip.accumulate(anchors, keys, scale: scale, self.weight, across: nil)
    }
    return (value, slope)
  }
}
