internal import Tensor

/// Interactive contrastive learning (CLIP-KD): student anchors find their partner among the teacher's rows of the other
/// modality.
///
/// L = 1/(2N) Σ_i [ lse_j(γ ũ_i·y_j) − γ ũ_i·y_i + lse_j(γ ṽ_i·x_j) − γ ṽ_i·x_i ]. Keys are the teacher's, so
/// G_ij = (1/2N)(softmax_ij − [i = j]), dŨ = γ G Y, and strips suffice.
final class ICL<S: Scalar> {
  private let tiles: Tiles<S>
  private let lse = Buffer<S>()
  private let sums = Buffer<S>()
  private let weight = RowVector<S>()

  init(_ tiles: Tiles<S>) { self.tiles = tiles }

  /// Adds weight · ∂L to this rank's rows; returns this rank's shares of L and of weight · ∂L/∂γ.
  func accumulate(
    _ student: Modalities<UnitRows<S>>, _ teacher: Modalities<UnitRows<S>>, scale: S, weight: Double,
    _ share: BatchShare
  ) -> (value: Double, slope: Double) {
    self.weight.set(S(weight / Double(2 * share.count)), share)
    let image = accumulate(student.image, teacher.text, scale, share)
    let text = accumulate(student.text, teacher.image, scale, share)
    return ((image.loss + text.loss) / Double(2 * share.count), image.slope + text.slope)
  }

  private func accumulate(
    _ anchors: UnitRows<S>, _ keys: UnitRows<S>, _ scale: S, _ share: BatchShare
  ) -> (loss: Double, slope: Double) {
    let b = share.rows.count
    let lse = lse.tensor(Shape(b))
    tiles.normalizers(anchors.own, keys.all, scale: scale, into: lse, sums: sums)
    let loss = (0..<b).reduce(0.0) {
      $0 + Double(lse[$1]) - Double(scale) * dot(anchors.own.rows($1..<$1 + 1), keys.own.rows($1..<$1 + 1))
    }
    let slope = tiles.gradient(anchors.own, keys.all, scale: scale, into: anchors.gradient) {
      tile, rows, columns, along in
      contrastiveGradient(
        tile, scale: scale, rowLSE: lse.slice(rows), rowWeight: weight.own.slice(rows), columns: nil,
        diagonal: share.first + rows.lowerBound - columns.lowerBound, along: along)
    }
    return (loss, slope)
  }
}
