internal import RealModule

// All loops run over contiguous memory; sums over many elements are held in Double.

/// x ← value.
@specialized(where S == Float)
@specialized(where S == Double)
public func fill<S: Scalar>(_ x: Tensor<S>, _ value: S) {
  let p = x.pointer
  Threads.split(x.count, grain: 1 << 16) { _, range in
    for i in range { p[i] = value }
  }
}

/// y ← x.
public func copy<S: Scalar>(_ x: Tensor<S>, into y: Tensor<S>) {
  precondition(x.count == y.count, "copy of \(x.shape) into \(y.shape)")
  y.pointer.update(from: x.pointer, count: x.count)
}

/// x ← factor · x.
@specialized(where S == Float)
@specialized(where S == Double)
public func scale<S: Scalar>(_ x: Tensor<S>, by factor: S) {
  let p = x.pointer
  Threads.split(x.count, grain: 1 << 16) { _, range in
    for i in range { p[i] *= factor }
  }
}

/// y ← y + factor · x.
@specialized(where S == Float)
@specialized(where S == Double)
public func add<S: Scalar>(_ x: Tensor<S>, times factor: S = 1, to y: Tensor<S>) {
  precondition(x.count == y.count, "add of \(x.shape) to \(y.shape)")
  let (p, q) = (x.pointer, y.pointer)
  Threads.split(x.count, grain: 1 << 16) { _, range in
    for i in range { q[i] = q[i].addingProduct(factor, p[i]) }
  }
}

/// y[i, :] ← bias: the beginning of a product that accumulates onto it.
public func broadcast<S: Scalar>(_ bias: Tensor<S>, into y: Tensor<S>) {
  let w = y.columns
  precondition(bias.count == w, "a bias of \(bias.shape) for \(y.shape)")
  let (b, q) = (bias.pointer, y.pointer)
  Threads.split(y.rows, grain: 64) { _, rows in
    for i in rows { (q + i * w).update(from: b, count: w) }
  }
}

/// y[i, :] ← x[i, :] + bias; y may be x.
@specialized(where S == Float)
@specialized(where S == Double)
public func add<S: Scalar>(_ x: Tensor<S>, bias: Tensor<S>, into y: Tensor<S>) {
  let w = x.columns
  precondition(bias.count == w && x.count == y.count, "a bias of \(bias.shape) for \(x.shape) into \(y.shape)")
  let (p, b, q) = (x.pointer, bias.pointer, y.pointer)
  Threads.split(x.rows, grain: 64) { _, rows in
    for i in rows {
      let (source, target) = (p + i * w, q + i * w)
      for j in 0..<w { target[j] = source[j] + b[j] }
    }
  }
}

/// sums ← sums + Σ_i x[i, :]: the gradient of a bias.
@specialized(where S == Float)
@specialized(where S == Double)
public func addColumnSums<S: Scalar>(of x: Operand<S>, to sums: Tensor<S>) {
  precondition(sums.count == x.columns, "column sums of \(x.shape) into \(sums.shape)")
  switch x {
  case .exact(let matrix): addColumnSums(ExactElements(matrix), x.rows, x.columns, to: sums.pointer)
  case .rounded(let matrix): addColumnSums(RoundedElements(matrix), x.rows, x.columns, to: sums.pointer)
  }
}

@inline(__always)
private func addColumnSums<E: Elements>(_ x: E, _ n: Int, _ w: Int, to sums: UnsafeMutablePointer<E.Number>) {
  // Threads take columns, so that each sum is made by one of them.
  Threads.split(w, grain: 64) { _, columns in
    for i in 0..<n {
      let row = x.advanced(by: i * w)
      for j in columns { sums[j] += row[j] }
    }
  }
}

/// Σ x, in double precision.
@specialized(where S == Float)
@specialized(where S == Double)
public func sum<S: Scalar>(_ x: Tensor<S>) -> Double {
  let p = x.pointer
  var total = 0.0
  for i in 0..<x.count { total = Relaxed.sum(total, Double(p[i])) }
  return total
}

/// Σ x², held in Double.
@specialized(where S == Float)
@specialized(where S == Double)
public func sumOfSquares<S: Scalar>(_ x: Tensor<S>) -> Double {
  let p = x.pointer
  var total = 0.0
  for i in 0..<x.count {
    let value = Double(p[i])
    total = Relaxed.multiplyAdd(value, value, total)
  }
  return total
}

/// Σ x·y, held in Double.
@specialized(where S == Float)
@specialized(where S == Double)
public func dot<S: Scalar>(_ x: Tensor<S>, _ y: Tensor<S>) -> Double {
  precondition(x.count == y.count, "dot of \(x.shape) and \(y.shape)")
  let (p, q) = (x.pointer, y.pointer)
  var total = 0.0
  for i in 0..<x.count { total = Relaxed.multiplyAdd(Double(p[i]), Double(q[i]), total) }
  return total
}
