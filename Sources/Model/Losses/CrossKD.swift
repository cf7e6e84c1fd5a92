internal import Tensor

/// CLIP-KD's cross-KD: student anchors rank the teacher's rows of the other modality as the teacher's own anchors do.
///
/// L = 1/(2N) Σ_i [ KL(softmax_j β x_i·y_j ‖ softmax_j γ ũ_i·y_j) + KL(softmax_j β y_i·x_j ‖ softmax_j γ ṽ_i·x_j) ];
/// G = (1/2N)(p − q), dŨ = γ G Y. γ is ICL's.
final class CrossKD<S: Scalar> {
  private let strip: DivergenceStrip<S>
  private let weight = RowVector<S>()

  init(_ tiles: Tiles<S>) { strip = DivergenceStrip(tiles) }

  /// Adds weight · ∂L to this rank's rows; returns this rank's shares of L and of weight · ∂L/∂γ.
  func accumulate(
    _ student: Modalities<UnitRows<S>>, _ teacher: Modalities<UnitRows<S>>, scales: Scales<S>, weight: Double,
    _ share: BatchShare
  ) -> (value: Double, slope: Double) {
    self.weight.set(S(weight / Double(2 * share.count)), share)
    var (value, slope) = (0.0, 0.0)
    for (anchors, own, keys) in [
      (student.image, teacher.image.own, teacher.text.all), (student.text, teacher.text.own, teacher.image.all),
    ] {
      strip.fold((anchors.own, keys), (own, keys), scales, share)
      value += sum(strip.rows.divergence) / Double(2 * share.count)
      slope += strip.accumulate(anchors, keys, (own, keys), scales, self.weight, across: nil)
    }
    return (value, slope)
  }
}
