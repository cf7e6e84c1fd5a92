internal import RealModule

// Logits of which several teachers are the source: tiles of y_ij = ln Σ_k q^k_ij, whose softmax is the teachers' mean.

/// y_ij ← ln( e^y_ij + e^(scale · r_ij − lse) ), with the log-sum-exp of row i or of column j.
///
/// Begun with y = −∞ and called once a teacher it makes the logarithm of the sum of their softmaxes, which no pair is
/// too unlikely for.
@specialized(where S == Float)
@specialized(where S == Double)
public func addProbability<S: Scalar>(
  _ r: Tensor<S>, scale: S, lse: Tensor<S>, of anchors: Anchors, to y: Tensor<S>
) {
  let (b, t) = (r.rows, r.columns)
  precondition(y.count == r.count && lse.count == (anchors == .rows ? b : t), "\(r.shape) and \(lse.shape)")
  let (p, q, m) = (r.pointer, y.pointer, lse.pointer)
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
