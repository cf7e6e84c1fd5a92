internal import RealModule

// Tiles of GD: products c of anchors and keys. A softmax belongs to an anchor, which is a tile's row or its column.

/// Whose log-sum-exps a vector holds: those of a tile's rows or those of its columns.
public enum Anchors: Sendable { case rows, columns }

/// C → P − 1, in place: softmax of scale · c less the target, which is each row's own column `diagonal + i`.
@specialized(where S == Float)
@specialized(where S == Double)
public func softmaxResidual<S: Scalar>(_ c: Tensor<S>, scale: S, lse: Tensor<S>, of anchors: Anchors, diagonal: Int) {
  let (b, t) = (c.rows, c.columns)
  precondition(lse.count == (anchors == .rows ? b : t), "\(lse.shape) for \(c.shape)")
  let (p, l) = (c.pointer, lse.pointer)
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

/// X → dZ, in place: dz = P (factor · x − σ), with P the softmax of scale · c, and σ of the same anchors as `lse`. Adds
/// Σ_j dz_ij c_ij to `along`.
@specialized(where S == Float)
@specialized(where S == Double)
public func softmaxBackward<S: Scalar>(
  _ x: Tensor<S>, factor: S, products c: Tensor<S>, scale: S, lse: Tensor<S>, sigma: Tensor<S>, of anchors: Anchors,
  along: Tensor<S>
) {
  let (b, t) = (c.rows, c.columns)
  precondition(x.count == c.count && sigma.count == lse.count && along.count == b, "\(x.shape), \(c.shape)")
  precondition(lse.count == (anchors == .rows ? b : t), "\(lse.shape) for \(c.shape)")
  let (p, q, l, s) = (x.pointer, c.pointer, lse.pointer, sigma.pointer)
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
