internal import RealModule

// Tiles of similarities: b rows that this rank owns, t consecutive columns of the global batch. A tile holds products
// c_ij = ⟨a_i, b_j⟩; logits are z_ij = scale · c_ij, so that one tile serves any scale.

/// Folds a tile of logits into each row's running maximum m and sum Σ e^(z − m).
///
/// Before the first tile: m = −∞ and sum = 0. With `leavingOut` row i leaves out its column leavingOut + i, where the
/// tile has it.
@specialized(where S == Float)
@specialized(where S == Double)
public func foldLogSumExp<S: Scalar>(
  _ c: Tensor<S>, scale: S, maximum: Tensor<S>, sum: Tensor<S>, leavingOut diagonal: Int? = nil
) {
  let (b, t) = (c.rows, c.columns)
  precondition(maximum.count == b && sum.count == b, "\(c.shape) into \(maximum.shape), \(sum.shape)")
  let (p, m, s) = (c.pointer, maximum.pointer, sum.pointer)
  Threads.split(b, grain: 8) { _, rows in
    for i in rows {
      let row = p + i * t
      let (before, after) = candidates(t, without: diagonal.map { $0 + i })
      var largest = m[i]
      for half in 0..<2 {
        largest = max(largest, scaledLargest(row, half == 0 ? before : after, scale: scale))
      }
      var total: S = 0
      for half in 0..<2 {
        for j in half == 0 ? before : after {
          total = Relaxed.sum(total, S.exponential(scale * row[j] - largest))
        }
      }
      s[i] = (s[i] == 0 ? 0 : s[i] * S.exponential(m[i] - largest)) + total
      m[i] = largest
    }
  }
}

/// The largest of scale · row over a part of it, for a scale above 0; −∞ of none.
@inline(__always)
func scaledLargest<S: Scalar>(_ row: UnsafeMutablePointer<S>, _ part: Range<Int>, scale: S) -> S {
  part.isEmpty ? -.infinity : scale * S.largest(row + part.lowerBound, part.count)
}

/// lse_i = m_i + ln sum_i, written over the maximum.
public func finishLogSumExp<S: Scalar>(maximum: Tensor<S>, sum: Tensor<S>) {
  for i in 0..<maximum.count { maximum[i] += S.log(sum[i]) }
}
