internal import RealModule

// n rows, d columns.

/// y_i = x_i / ‖x_i‖; keeps 1/‖x_i‖. A row of zeros stays zero, with 0 as its reciprocal.
@specialized(where S == Float)
@specialized(where S == Double)
public func normalizeRows<S: Scalar>(_ x: Tensor<S>, into y: Tensor<S>, reciprocal: Tensor<S>) {
  let (n, d) = (x.rows, x.columns)
  precondition(y.count == x.count && reciprocal.count == n, "\(x.shape) into \(y.shape), \(reciprocal.shape)")
  let (p, q, r) = (x.pointer, y.pointer, reciprocal.pointer)
  for i in 0..<n {
    let (source, target) = (p + i * d, q + i * d)
    var squares = 0.0
    for j in 0..<d {
      let value = Double(source[j])
      squares = Relaxed.multiplyAdd(value, value, squares)
    }
    let factor = squares > 0 ? S(1 / squares.squareRoot()) : 0
    for j in 0..<d { target[j] = source[j] * factor }
    r[i] = factor
  }
}

/// dy_i ← (dy_i − y_i ⟨y_i, dy_i⟩) / ‖x_i‖, in place.
@specialized(where S == Float)
@specialized(where S == Double)
public func normalizeRowsBackward<S: Scalar>(_ dy: Tensor<S>, y: Tensor<S>, reciprocal: Tensor<S>) {
  let (n, d) = (y.rows, y.columns)
  precondition(dy.count == y.count && reciprocal.count == n, "\(dy.shape) with \(y.shape), \(reciprocal.shape)")
  let (p, q, r) = (dy.pointer, y.pointer, reciprocal.pointer)
  Threads.split(n, grain: 64) { _, range in
    for i in range {
      let (gradient, unit) = (p + i * d, q + i * d)
      var along: S = 0
      for j in 0..<d { along = Relaxed.multiplyAdd(gradient[j], unit[j], along) }
      for j in 0..<d { gradient[j] = (gradient[j] - unit[j] * along) * r[i] }
    }
  }
}
