internal import RealModule

/// x ← value.
@specialized(where S == Float) @specialized(where S == Double)
public func fill<S: Scalar>(_ x: Tensor<S>, _ value: S) {
  let p = x.pointer
  Threads.split(x.count, grain: 1 << 16) { _, range in for i in range { p[i] = value } }
}

/// y ← x.
public func copy<S: Scalar>(_ x: Tensor<S>, into y: Tensor<S>) {
  precondition(x.count == y.count, "copy of \(x.shape) into \(y.shape)")
  y.pointer.update(from: x.pointer, count: x.count)
}

/// Copies the bits of x into y, whose elements may be of another size, but take as many bytes in all.
public func copyBits<A: BitwiseCopyable, B: BitwiseCopyable>(_ x: Tensor<A>, into y: Tensor<B>) {
  let bytes = x.count * MemoryLayout<A>.stride
  precondition(bytes == y.count * MemoryLayout<B>.stride, "the bits of \(x.shape) copied into \(y.shape)")
  y.bytes.copyMemory(from: x.bytes, byteCount: bytes)
}

/// x ← factor · x.
@specialized(where S == Float) @specialized(where S == Double)
public func scale<S: Scalar>(_ x: Tensor<S>, by factor: S) {
  let p = x.pointer
  Threads.split(x.count, grain: 1 << 16) { _, range in for i in range { p[i] *= factor } }
}

/// y ← y + factor · x.
@specialized(where S == Float) @specialized(where S == Double)
public func add<S: Scalar>(_ x: Tensor<S>, times factor: S = 1, to y: Tensor<S>) {
  precondition(x.count == y.count, "add of \(x.shape) to \(y.shape)")
  let (p, q) = (x.pointer, y.pointer)
  Threads.split(x.count, grain: 1 << 16) { _, range in
    for i in range { q[i] = q[i].addingProduct(factor, p[i]) }
  }
}

/// sums ← sums + weight · x, in Double.
@specialized(where S == Float) @specialized(where S == Double)
public func add<S: Scalar>(_ x: Tensor<S>, weight: Double, toSums sums: Tensor<Double>) {
  precondition(x.count == sums.count, "add of \(x.shape) to sums of \(sums.shape)")
  let (p, q) = (x.pointer, sums.pointer)
  Threads.split(x.count, grain: 1 << 16) { _, range in
    for i in range { q[i] = q[i].addingProduct(weight, Double(p[i])) }
  }
}

/// y ← sums, rounded to nearest.
@specialized(where S == Float) @specialized(where S == Double)
public func round<S: Scalar>(sums: Tensor<Double>, into y: Tensor<S>) {
  precondition(y.count == sums.count, "sums of \(sums.shape) into \(y.shape)")
  let (p, q) = (sums.pointer, y.pointer)
  Threads.split(y.count, grain: 1 << 16) { _, range in for i in range { q[i] = S(p[i]) } }
}

/// y[i, :] ← bias, for y [n, w]: the start of a product that is added to it.
public func broadcast<S: Scalar>(_ bias: Tensor<S>, into y: Tensor<S>) {
  let (w, b, q) = (y.columns, bias.pointer, y.pointer)
  precondition(bias.count == w, "a bias of \(bias.shape) for \(y.shape)")
  Threads.forEach(y.rows, grain: 64) { i in (q + i * w).update(from: b, count: w) }
}

/// y[i, :] ← x[i, :] + bias, for x, y [n, w] and a bias [w]; y may be x.
@specialized(where S == Float) @specialized(where S == Double)
public func add<S: Scalar>(_ x: Tensor<S>, bias: Tensor<S>, into y: Tensor<S>) {
  let (w, p, b, q) = (x.columns, x.pointer, bias.pointer, y.pointer)
  precondition(bias.count == w && x.count == y.count, "a bias of \(bias.shape) for \(x.shape) into \(y.shape)")
  Threads.forEach(x.rows, grain: 64) { i in
    let (source, target) = (p + i * w, q + i * w)
    for j in 0..<w { target[j] = source[j] + b[j] }
  }
}

/// sums ← sums + Σ_i x[i, :], the gradient of a bias, for x [n, w] and sums [w].
@specialized(where S == Float) @specialized(where S == Double)
public func addColumnSums<S: Scalar>(of x: MatrixOperand<S>, to sums: Tensor<S>) {
  precondition(sums.count == x.columns, "column sums of \(x.shape) into \(sums.shape)")
  switch x {
  case .fp32: addColumnSums(FP32Elements(x), x.rows, x.columns, to: sums.pointer)
  case .bf16: addColumnSums(BFloat16Elements(x), x.rows, x.columns, to: sums.pointer)
  }
}

@inline(__always) private func addColumnSums<E: Elements>(_ x: E, _ n: Int, _ w: Int, to sums: Pointer<E.Number>) {
  // Threads share out the columns, so that each sum is made by one of them.
  Threads.split(w, grain: 64) { _, columns in
    for i in 0..<n {
      let row = x.advanced(by: i * w)
      for j in columns { sums[j] += row[j] }
    }
  }
}

/// Returns Σ x, in Double.
@specialized(where S == Float) @specialized(where S == Double)
public func sum<S: Scalar>(_ x: Tensor<S>) -> Double {
  let p = x.pointer
  var total = 0.0
  for i in 0..<x.count { total = Relaxed.sum(total, Double(p[i])) }
  return total
}

/// Returns Σ x², in Double.
@specialized(where S == Float) @specialized(where S == Double)
public func sumOfSquares<S: Scalar>(_ x: Tensor<S>) -> Double {
  let p = x.pointer
  var total = 0.0
  for i in 0..<x.count { total = Relaxed.multiplyAdd(Double(p[i]), Double(p[i]), total) }
  return total
}

/// Returns Σ x y, in Double.
@specialized(where S == Float) @specialized(where S == Double)
public func dot<S: Scalar>(_ x: Tensor<S>, _ y: Tensor<S>) -> Double {
  precondition(x.count == y.count, "dot of \(x.shape) and \(y.shape)")
  let (p, q) = (x.pointer, y.pointer)
  var total = 0.0
  for i in 0..<x.count { total = Relaxed.multiplyAdd(Double(p[i]), Double(q[i]), total) }
  return total
}

/// Returns Σ_i a_i ‖x_i − y_i‖² over rows and adds factor · 2 a_i (x_i − y_i), the gradient of factor times that, to
/// `gradient`. a are the `rowFactors`; nil if they are all 1.
@specialized(where S == Float) @specialized(where S == Double)
public func squaredDistance<S: Scalar>(
  _ x: Tensor<S>, to y: Tensor<S>, factor: S, rowFactors: [Double]? = nil, gradient: Tensor<S>
) -> Double {
  precondition(x.count == y.count && gradient.count == x.count, "\(x.shape) to \(y.shape)")
  precondition(rowFactors.map { $0.count == x.rows } ?? true, "factors for \(x.shape)")
  let (n, d, p, q, g) = (x.rows, x.columns, x.pointer, y.pointer, gradient.pointer)
  var total = 0.0
  for i in 0..<n {
    var sum: S = 0
    let rowFactor = rowFactors?[i] ?? 1
    let twice = 2 * factor * S(rowFactor)
    for j in i * d..<(i + 1) * d {
      let difference = p[j] - q[j]
      sum = Relaxed.multiplyAdd(difference, difference, sum)
      g[j] += twice * difference
    }
    total += Double(sum) * rowFactor
  }
  return total
}

/// Returns a hash of the bits of x and of their order, the same for different bits with a chance of about 2⁻⁶⁴.
public func bitHash<S: Scalar>(_ x: Tensor<S>) -> UInt64 {
  // Four times eight chains run side by side, because each waits for its own products.
  typealias Lanes = SIMD8<UInt64>
  let (prime, shift) = (Lanes(repeating: 0x9E37_79B9_7F4A_7C15), Lanes(repeating: 29))
  let first = Lanes(0, 1, 2, 3, 4, 5, 6, 7)
  var (a, b, c, d) = (first, first &+ 8, first &+ 16, first &+ 24)
  let bytes = UnsafeRawBufferPointer(start: x.pointer, count: x.count * MemoryLayout<S>.stride)
  let step = 4 * MemoryLayout<Lanes>.size
  var at = 0
  while at + step <= bytes.count {
    a = (a ^ bytes.loadUnaligned(fromByteOffset: at, as: Lanes.self)) &* prime
    b = (b ^ bytes.loadUnaligned(fromByteOffset: at + 64, as: Lanes.self)) &* prime
    c = (c ^ bytes.loadUnaligned(fromByteOffset: at + 128, as: Lanes.self)) &* prime
    d = (d ^ bytes.loadUnaligned(fromByteOffset: at + 192, as: Lanes.self)) &* prime
    // A product carries bits only upwards.
    a ^= a &>> shift
    b ^= b &>> shift
    c ^= c &>> shift
    d ^= d &>> shift
    at += step
  }
  var hash = UInt64(bytes.count)
  func add(_ word: UInt64) {
    hash = (hash ^ word) &* 0x9E37_79B9_7F4A_7C15
    hash ^= hash >> 29
  }
  for lanes in [a, b, c, d] { for lane in 0..<8 { add(lanes[lane]) } }
  for byte in bytes[at...] { add(UInt64(byte)) }
  return hash
}
