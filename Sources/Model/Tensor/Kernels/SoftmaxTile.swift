internal import RealModule

// Tiles of similarities: b rows of the local batch, t consecutive columns of the global batch. A tile holds products
// c_ij = ⟨a_i, b_j⟩; logits are z_ij = scale · c_ij, so that one tile serves any scale. A softmax belongs to an anchor,
// which is a row or a column of the tile.

/// Folds a tile of logits z = scale · c, [b, t], into each row's running maximum m and sum Σ e^(z − m), [b] each.
///
/// Before the first tile m = −∞ and the sum is 0. With `leavingOut` row i leaves out its column `leavingOut + i`, if
/// the tile has it.
@specialized(where S == Float) @specialized(where S == Double)
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

/// Returns the largest of scale · row over a part of it, for a scale above 0; −∞ for an empty part.
@inline(__always)
func scaledLargest<S: Scalar>(_ row: UnsafeMutablePointer<S>, _ part: Range<Int>, scale: S) -> S {
  part.isEmpty ? -.infinity : scale * S.largest(row + part.lowerBound, part.count)
}

/// lse_i = m_i + ln sum_i, which replaces the maximum.
public func finishLogSumExp<S: Scalar>(maximum: Tensor<S>, sum: Tensor<S>) {
  for i in 0..<maximum.count { maximum[i] += S.log(sum[i]) }
}

/// The anchors of a tile: its rows or its columns.
public enum Anchors: Sendable { case rows, columns }

/// The softmax P of z = scale · c over the candidates of each anchor, for a tile of products c [b, t].
public struct TileSoftmax<S: Scalar> {
  let products: Tensor<S>
  let scale: S
  /// The anchors' log-sum-exps: [b] if they are the rows, [t] if they are the columns.
  let lse: Tensor<S>
  let anchors: Anchors

  public init(_ products: Tensor<S>, scale: S, lse: Tensor<S>, of anchors: Anchors) {
    let count = anchors == .rows ? products.rows : products.columns
    precondition(lse.count == count, "\(lse.shape) for \(products.shape)")
    (self.products, self.scale, self.lse, self.anchors) = (products, scale, lse, anchors)
  }
}

/// c ← P − 1, in place, where 1 stands in each row's own column, `diagonal + i` of the tile: a softmax less its target.
@specialized(where S == Float) @specialized(where S == Double)
public func softmaxResidual<S: Scalar>(_ softmax: TileSoftmax<S>, diagonal: Int) {
  let (c, scale, anchors) = (softmax.products, softmax.scale, softmax.anchors)
  let (b, t) = (c.rows, c.columns)
  let (p, l) = (c.pointer, softmax.lse.pointer)
  for i in 0..<b {
    let row = p + i * t
    if anchors == .rows {
      for j in 0..<t { row[j] = S.exponential(scale * row[j] - l[i]) }
    } else {
      for j in 0..<t { row[j] = S.exponential(scale * row[j] - l[j]) }
    }
    let own = diagonal + i
    if own >= 0 && own < t { row[own] -= 1 }
  }
}

/// x ← dz, in place, with dz_ij = P_ij (factor · x_ij − σ), where the softmax's anchors have the numbers `sigma`, of as
/// many as `lse`. Adds Σ_j dz_ij c_ij to `along` [b].
@specialized(where S == Float) @specialized(where S == Double)
public func softmaxBackward<S: Scalar>(
  _ x: Tensor<S>, factor: S, _ softmax: TileSoftmax<S>, sigma: Tensor<S>, along: Tensor<S>
) {
  let (c, scale, anchors) = (softmax.products, softmax.scale, softmax.anchors)
  let (b, t) = (c.rows, c.columns)
  precondition(
    x.count == c.count && sigma.count == softmax.lse.count && along.count == b, "\(x.shape), \(c.shape)")
  let (p, q, l, s) = (x.pointer, c.pointer, softmax.lse.pointer, sigma.pointer)
  for i in 0..<b {
    let (row, product) = (p + i * t, q + i * t)
    var total: S = 0
    if anchors == .rows {
      for j in 0..<t {
        let dz = S.exponential(scale * product[j] - l[i]) * (factor * row[j] - s[i])
        total = Relaxed.multiplyAdd(dz, product[j], total)
        row[j] = dz
      }
    } else {
      for j in 0..<t {
        let dz = S.exponential(scale * product[j] - l[j]) * (factor * row[j] - s[j])
        total = Relaxed.multiplyAdd(dz, product[j], total)
        row[j] = dz
      }
    }
    along.pointer[i] += total
  }
}

/// y_ij ← ln( e^y_ij + P_ij ).
///
/// Starting from y = −∞ and called once for each teacher, it makes the logarithm of the sum of their softmaxes, whose
/// own softmax is the teachers' mean, without underflow for any pair.
@specialized(where S == Float) @specialized(where S == Double)
public func addProbability<S: Scalar>(_ softmax: TileSoftmax<S>, to y: Tensor<S>) {
  let (r, scale, anchors) = (softmax.products, softmax.scale, softmax.anchors)
  let (b, t) = (r.rows, r.columns)
  precondition(y.count == r.count, "\(r.shape) into \(y.shape)")
  let (p, q, m) = (r.pointer, y.pointer, softmax.lse.pointer)
  Threads.split(b, grain: 8) { _, range in
    for i in range {
      let (product, sum) = (p + i * t, q + i * t)
      for j in 0..<t {
        let (old, new) = (sum[j], scale * product[j] - (anchors == .rows ? m[i] : m[j]))
        let (low, high) = old < new ? (old, new) : (new, old)
        sum[j] = high + S.log(onePlus: S.exponential(low - high))
      }
    }
  }
}
