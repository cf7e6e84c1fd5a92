internal import RealModule

// Tiles of logits: b rows that this rank owns, t consecutive columns of the global batch.

/// Folds a tile of logits into each row's running maximum m and sum Σ e^(z − m).
///
/// Before the first tile: m = −∞ and sum = 0.
@specialized(where S == Float)
@specialized(where S == Double)
public func foldLogSumExp<S: Scalar>(_ z: Tensor<S>, maximum: Tensor<S>, sum: Tensor<S>) {
  let (b, t) = (z.rows, z.columns)
  precondition(maximum.count == b && sum.count == b, "\(z.shape) into \(maximum.shape), \(sum.shape)")
  let (p, m, s) = (z.pointer, maximum.pointer, sum.pointer)
  Threads.split(b, grain: 8) { _, rows in
    for i in rows {
      let row = p + i * t
      var largest = m[i]
      for j in 0..<t { largest = row[j] > largest ? row[j] : largest }
      var total: S = 0
      for j in 0..<t { total = Relaxed.sum(total, S.exponential(row[j] - largest)) }
      s[i] = (s[i] == 0 ? 0 : s[i] * S.exponential(m[i] - largest)) + total
      m[i] = largest
    }
  }
}

/// lse_i = m_i + ln sum_i, written over the maximum.
public func finishLogSumExp<S: Scalar>(maximum: Tensor<S>, sum: Tensor<S>) {
  for i in 0..<maximum.count { maximum[i] += S.log(sum[i]) }
}

/// Z → G, in place, for the symmetric cross entropy; returns Σ G·Z, the tile's share of the log scale's gradient.
///
/// G_ij = factor · (e^(z_ij − rowLSE_i) + e^(z_ij − columnLSE_j) − 2·[j is i's own column]), where the own column of
/// row i is `diagonal + i` counted from the tile's first column (it may lie outside the tile).
@specialized(where S == Float)
@specialized(where S == Double)
public func contrastiveGradient<S: Scalar>(
  _ z: Tensor<S>, rowLSE: Tensor<S>, columnLSE: Tensor<S>, diagonal: Int, factor: S
) -> Double {
  let (b, t) = (z.rows, z.columns)
  precondition(rowLSE.count == b && columnLSE.count == t, "\(z.shape) with \(rowLSE.shape), \(columnLSE.shape)")
  let (p, r, c) = (z.pointer, rowLSE.pointer, columnLSE.pointer)
  var total = 0.0
  for i in 0..<b {
    let row = p + i * t
    let own = diagonal + i
    let sum = r[i]
    let logit: S = own >= 0 && own < t ? row[own] : 0
    var along: S = 0
    for j in 0..<t {
      let value = row[j]
      let gradient = factor * (S.exponential(value - sum) + S.exponential(value - c[j]))
      row[j] = gradient
      along = Relaxed.multiplyAdd(gradient, value, along)
    }
    total += Double(along)
    if own >= 0 && own < t {
      row[own] -= 2 * factor
      total -= Double(2 * factor * logit)
    }
  }
  return total
}
