internal import RealModule

/// Adds factor · 2 (x − y) to `gradient`, the gradient of factor · Σ (x − y)², and returns Σ (x − y)².
@specialized(where S == Float)
@specialized(where S == Double)
public func squaredDistance<S: Scalar>(
  _ x: Tensor<S>, to y: Tensor<S>, factor: S, gradient: Tensor<S>
) -> Double {
  precondition(x.count == y.count && gradient.count == x.count, "\(x.shape) to \(y.shape)")
  let (n, d) = (x.rows, x.columns)
  let (p, q, g) = (x.pointer, y.pointer, gradient.pointer)
  var total = 0.0
  for i in 0..<n {
    var sum: S = 0
    for j in i * d..<(i + 1) * d {
      let difference = p[j] - q[j]
      sum = Relaxed.multiplyAdd(difference, difference, sum)
      g[j] += 2 * factor * difference
    }
    total += Double(sum)
  }
  return total
}

/// z_i = [x_i; y_i]: rows beside one another.
public func joinRows<S: Scalar>(_ x: Tensor<S>, _ y: Tensor<S>, into z: Tensor<S>) {
  let (n, d, e) = (x.rows, x.columns, y.columns)
  precondition(y.rows == n && z.rows == n && z.columns == d + e, "\(x.shape) beside \(y.shape) into \(z.shape)")
  for i in 0..<n {
    (z.pointer + i * (d + e)).update(from: x.pointer + i * d, count: d)
    (z.pointer + i * (d + e) + d).update(from: y.pointer + i * e, count: e)
  }
}

/// x_i += the first columns of z_i.
@specialized(where S == Float)
@specialized(where S == Double)
public func addLeadingColumns<S: Scalar>(of z: Tensor<S>, to x: Tensor<S>) {
  let (n, d, w) = (x.rows, x.columns, z.columns)
  precondition(z.rows == n && w >= d, "the first columns of \(z.shape) to \(x.shape)")
  let (p, q) = (z.pointer, x.pointer)
  for i in 0..<n {
    for j in 0..<d { q[i * d + j] += p[i * w + j] }
  }
}
