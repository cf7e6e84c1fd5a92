internal import RealModule

/// c ← G, in place, for cross entropies whose target is an anchor's own partner (Radford et al., 2021).
///
/// G_ij = a_i (e^(z_ij − rowLSE_i) − [j is i's own]) + w_j (e^(z_ij − columnLSE_j) − [j is i's own]) with z = scale ·
/// c: the gradient with respect to z of Σ a_i ℓ_i over rows as anchors and Σ w_j ℓ_j over columns as anchors. Without
/// columns the second part is left out. c is [b, t], vectors of rows are [b] and of columns [t]. Row i's own column is
/// `diagonal + i`, counted from the tile's first, and may lie outside it. Adds Σ_j G_ij c_ij to `along`, whose sum
/// is the gradient of the scale.
@specialized(where S == Float) @specialized(where S == Double)
public func contrastiveGradient<S: Scalar>(
  _ c: Tensor<S>, scale: S, rowLSE: Tensor<S>, rowWeight: Tensor<S>,
  columns: (lse: Tensor<S>, weight: Tensor<S>)?, diagonal: Int, along: Tensor<S>
) {
  let (b, t) = (c.rows, c.columns)
  precondition(
    rowLSE.count == b && rowWeight.count == b && along.count == b, "\(c.shape) with \(rowLSE.shape), \(along.shape)")
  precondition(
    columns.map { $0.lse.count == t && $0.weight.count == t } ?? true, "vectors of \(t) for the columns of \(c.shape)")
  let (p, rows, weights, sums) = (c.pointer, rowLSE.pointer, rowWeight.pointer, along.pointer)
  let (columnSums, columnWeights) = (columns?.lse.pointer, columns?.weight.pointer)
  Threads.split(b, grain: 8) { _, range in
    for i in range {
      let row = p + i * t
      let (lse, a) = (rows[i], weights[i])
      let own = diagonal + i
      let isHere = own >= 0 && own < t
      let product: S = isHere ? row[own] : 0
      var total: S = 0
      if let columnSums, let columnWeights {
        for j in 0..<t {
          let z = scale * row[j]
          let g = a * S.exponential(z - lse) + columnWeights[j] * S.exponential(z - columnSums[j])
          total = Relaxed.multiplyAdd(g, row[j], total)
          row[j] = g
        }
      } else {
        for j in 0..<t {
          let g = a * S.exponential(scale * row[j] - lse)
          total = Relaxed.multiplyAdd(g, row[j], total)
          row[j] = g
        }
      }
      if isHere {
        let target = a + (columnWeights.map { $0[own] } ?? 0)
        row[own] -= target
        total -= target * product
      }
      sums[i] += total
    }
  }
}
