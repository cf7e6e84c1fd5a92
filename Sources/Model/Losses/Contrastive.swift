internal import RealModule
public import Tensor

/// CLIP's symmetric cross entropy over the global batch.
///
/// L = 1/(2N) Σ_i [ lse_j(α u_i·v_j) − α u_i·v_i + lse_j(α v_i·u_j) − α v_i·u_i ], for unit rows u, v and α = e^scale.
///
/// Each rank computes the strips of its own rows in column tiles with running log-sum-exps, the ranks exchange the two
/// vectors of log-sum-exps, and each then has all that the gradient of its own rows needs: with
/// G_ij = (1/2N)(e^(z_ij − lseI_i) + e^(z_ij − lseT_j) − 2·[i = j]), dU = α G V, dV = α Gᵀ U and dscale = Σ G·Z. So no
/// gradient is exchanged, and no rank holds more than own rows × tile of any N × N matrix.
public final class Contrastive<S: Scalar> {
  /// Columns of a tile. A strip that fits one tile is computed once and not again for the gradient.
  public let tile: Int

  private let logits = (Buffer<S>(), Buffer<S>())
  private let own = (Buffer<S>(), Buffer<S>())
  private let sums = Buffer<S>()
  private let everybody = (Buffer<S>(), Buffer<S>())

  public init(tile: Int = 2048) {
    precondition(tile > 0)
    self.tile = tile
  }

  /// Adds weight · ∂L/∂(own rows) to the features' gradients, and this rank's share of weight · ∂L/∂scale to
  /// `logitScaleGradient` (shares sum to the gradient over the ranks); returns L, the same on every rank.
  public func accumulate(
    _ features: Features<S>, logitScale: S, weight: S = 1, logitScaleGradient: Tensor<S>, ranks: some Ranks<S>
  ) throws -> Double {
    let (n, b) = (features.count, features.image.rows)
    let alpha = S.exp(logitScale)
    let lse = (own.0.tensor(Shape(b)), own.1.tensor(Shape(b)))
    normalizers(features.image, against: features.allTexts, alpha, into: lse.0, strip: logits.0)
    normalizers(features.text, against: features.allImages, alpha, into: lse.1, strip: logits.1)
    let all = (everybody.0.tensor(Shape(n)), everybody.1.tensor(Shape(n)))
    try ranks.gatherRows(lse.0.reshaped(Shape(b, 1)), into: all.0.reshaped(Shape(n, 1)))
    try ranks.gatherRows(lse.1.reshaped(Shape(b, 1)), into: all.1.reshaped(Shape(n, 1)))

    var value = [0.0]
    for i in 0..<b {
      let positive = Double(alpha) * dot(features.image.rows(i..<i + 1), features.text.rows(i..<i + 1))
      value[0] += Double(lse.0[i]) + Double(lse.1[i]) - 2 * positive
    }
    try ranks.sum(&value)

    let factor = weight / S(2 * n)
    let share = gradient(
      features.image, against: features.allTexts, alpha, rowLSE: lse.0, columnLSE: all.1, first: features.first,
      factor: factor, into: features.imageGradient, strip: logits.0)
    _ = gradient(
      features.text, against: features.allImages, alpha, rowLSE: lse.1, columnLSE: all.0, first: features.first,
      factor: factor, into: features.textGradient, strip: logits.1)
    logitScaleGradient[0] += S(share)
    return value[0] / Double(2 * n)
  }

  /// lse_i ← ln Σ_j e^(α a_i·b_j).
  private func normalizers(
    _ rows: Tensor<S>, against columns: Tensor<S>, _ alpha: S, into lse: Tensor<S>, strip: Buffer<S>
  ) {
    let sum = sums.tensor(lse.shape)
    fill(lse, -S.infinity)
    fill(sum, 0)
    forEachTile(columns) { range in
      let z = strip.tensor(Shape(rows.rows, range.count))
      matmul(rows, columns.rows(range), into: z, transposeB: true, alpha: alpha)
      foldLogSumExp(z, maximum: lse, sum: sum)
    }
    finishLogSumExp(maximum: lse, sum: sum)
  }

  /// Adds α G B to `gradient`, and returns Σ G·Z over own rows.
  private func gradient(
    _ rows: Tensor<S>, against columns: Tensor<S>, _ alpha: S, rowLSE: Tensor<S>, columnLSE: Tensor<S>, first: Int,
    factor: S, into gradient: Tensor<S>, strip: Buffer<S>
  ) -> Double {
    var total = 0.0
    forEachTile(columns) { range in
      let z = strip.tensor(Shape(rows.rows, range.count))
      if range.count < columns.rows {
        matmul(rows, columns.rows(range), into: z, transposeB: true, alpha: alpha)
      }
      total += contrastiveGradient(
        z, rowLSE: rowLSE, columnLSE: columnLSE.slice(range), diagonal: first - range.lowerBound, factor: factor)
      matmul(z, columns.rows(range), into: gradient, alpha: alpha, beta: 1)
    }
    return total
  }

  private func forEachTile(_ columns: Tensor<S>, _ body: (Range<Int>) -> Void) {
    for start in stride(from: 0, to: columns.rows, by: tile) { body(start..<min(start + tile, columns.rows)) }
  }
}
