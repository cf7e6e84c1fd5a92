/// sums ← sums + weight · x, held in Double.
@specialized(where S == Float)
@specialized(where S == Double)
public func add<S: Scalar>(_ x: Tensor<S>, weight: Double, toSums sums: Tensor<Double>) {
  precondition(x.count == sums.count, "add of \(x.shape) to sums of \(sums.shape)")
  let (p, q) = (x.pointer, sums.pointer)
  Threads.split(x.count, grain: 1 << 16) { _, range in
    for i in range { q[i] = q[i].addingProduct(weight, Double(p[i])) }
  }
}

/// y ← sums, rounded to nearest.
@specialized(where S == Float)
@specialized(where S == Double)
public func round<S: Scalar>(sums: Tensor<Double>, into y: Tensor<S>) {
  precondition(y.count == sums.count, "sums of \(sums.shape) into \(y.shape)")
  let (p, q) = (sums.pointer, y.pointer)
  Threads.split(y.count, grain: 1 << 16) { _, range in
    for i in range { q[i] = S(p[i]) }
  }
}
