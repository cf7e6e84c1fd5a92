internal import RealModule

/// c ← G, in place, for the sigmoid loss, which classifies each pair by itself (Zhai et al.: Sigmoid Loss for Language
/// Image Pre-Training, 2023).
///
/// With z = scale · c + bias and y_ij = 1 in row i's own column, −1 elsewhere, the loss of a pair is
/// ℓ_ij = ln(1 + e^(−y_ij z_ij)), and G_ij = weight · ∂ℓ_ij/∂z_ij = −weight · y_ij σ(−y_ij z_ij). The own column of row
/// i is `diagonal + i`, counted from the tile's first column (it may lie outside the tile). Adds Σ_j G_ij c_ij to
/// `along`, Σ_j G_ij to `slopes` and, if given, Σ_j ℓ_ij to `losses`, [b] each: the gradients of scale and bias and the
/// value are sums of these.
@specialized(where S == Float) @specialized(where S == Double)
public func sigmoidGradient<S: Scalar>(
  _ c: Tensor<S>, scale: S, bias: S, weight: S, diagonal: Int,
  addingTo rows: (along: Tensor<S>, slopes: Tensor<S>, losses: Tensor<S>?)
) {
  let (along, slopes, losses) = rows
  let (b, t) = (c.rows, c.columns)
  precondition(along.count == b && slopes.count == b, "\(c.shape) with \(along.shape), \(slopes.shape)")
  precondition(losses.map { $0.count == b } ?? true, "a vector of \(b) for the rows of \(c.shape)")
  let (p, products, sums, values) = (c.pointer, along.pointer, slopes.pointer, losses?.pointer)
  Threads.split(b, grain: 8) { _, range in
    for i in range {
      let row = p + i * t
      let own = diagonal + i
      if let values {
        // In Double, because thousands of negatives may have next to no loss beside one positive.
        var total = 0.0
        for j in 0..<t {
          let z = scale * row[j] + bias
          total += Double(softplus(j == own ? -z : z))
        }
        values[i] += S(total)
      }
      var (product, total): (S, S) = (0, 0)
      for j in 0..<t {
        let z = scale * row[j] + bias
        let x = j == own ? -z : z
        // σ(x), from an exponential that cannot overflow.
        let power = S.exponential(-abs(x))
        let share = weight / (1 + power)
        let size = x < 0 ? power * share : share
        let g = j == own ? -size : size
        product = Relaxed.multiplyAdd(g, row[j], product)
        total = Relaxed.sum(total, g)
        row[j] = g
      }
      products[i] += product
      sums[i] += total
    }
  }
}

/// ln(1 + eˣ), which cannot overflow; NaN of NaN.
@inline(__always)
private func softplus<S: Scalar>(_ x: S) -> S { (x > 0 ? x : 0) + S.log(onePlus: S.exponential(-abs(x))) }
