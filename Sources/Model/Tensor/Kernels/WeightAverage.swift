/// e ← e + share · (x − e): where x is e already, no bit changes.
@specialized(where S == Float)
@specialized(where S == Double)
public func approach<S: Scalar>(_ e: Tensor<S>, _ x: Tensor<S>, share: S) {
  precondition(e.count == x.count, "\(e.shape) towards \(x.shape)")
  let (p, q) = (e.pointer, x.pointer)
  Threads.split(e.count, grain: 1 << 16) { _, range in
    for i in range { p[i] = p[i].addingProduct(share, q[i] - p[i]) }
  }
}

/// x ↔ y.
@specialized(where S == Float)
@specialized(where S == Double)
public func swapValues<S: Scalar>(_ x: Tensor<S>, _ y: Tensor<S>) {
  precondition(x.count == y.count, "a swap of \(x.shape) for \(y.shape)")
  let (p, q) = (x.pointer, y.pointer)
  Threads.split(x.count, grain: 1 << 16) { _, range in
    for i in range { (p[i], q[i]) = (q[i], p[i]) }
  }
}
