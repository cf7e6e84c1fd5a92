/// The precision in which matrix products read their operands. They always sum in the model's own scalar.
public enum ComputePrecision: String, Sendable, CaseIterable, Codable {
  /// The model's own scalar, unrounded.
  case fp32
  /// Rounded to bfloat16: half the memory and, on processors with such products, at least twice the speed.
  case bf16
}

/// A matrix in the precision in which a product reads it.
public enum MatrixOperand<S: Scalar>: Sendable {
  case fp32(Tensor<S>)
  case bf16(BFloat16Matrix)

  public var shape: Shape {
    switch self {
    case .fp32(let x): x.shape
    case .bf16(let x): x.shape
    }
  }

  public var precision: ComputePrecision { if case .fp32 = self { .fp32 } else { .bf16 } }
  public var rows: Int { shape.rows }
  public var columns: Int { shape.columns }

  /// Returns a view of the same numbers with another shape of equal count.
  public func reshaped(_ shape: Shape) -> MatrixOperand {
    switch self {
    case .fp32(let x): .fp32(x.reshaped(shape))
    case .bf16(let x): .bf16(x.reshaped(shape))
    }
  }

  /// Returns a view of consecutive rows, with as many columns.
  public func rows(_ range: Range<Int>) -> MatrixOperand {
    switch self {
    case .fp32(let x): .fp32(x.rows(range))
    case .bf16(let x): .bf16(x.rows(range))
    }
  }
}

/// A matrix of bfloat16 numbers, the upper halves of Floats, with 8 significant bits. Matrix products read and write
/// it, but no sum is held in bfloat16.
public typealias BFloat16Matrix = Tensor<UInt16>

/// Memory for bfloat16 numbers.
public typealias BFloat16Buffer = Buffer<UInt16>

extension BFloat16Buffer {
  /// Returns a view of `shape` at `offset` of the buffer, which gets room for `count` numbers.
  func view(_ shape: Shape, at offset: Int = 0, of count: Int? = nil) -> BFloat16Matrix {
    memory(max(count ?? 0, offset + shape.count), zeroed: false).tensor(at: offset, shape)
  }

  /// Returns x for products of this precision: x itself, or x rounded into this buffer (at `offset`, if several
  /// matrices share a buffer of `count` numbers).
  public func operand<Number: Scalar>(
    _ x: Tensor<Number>, _ precision: ComputePrecision, at offset: Int = 0, of count: Int? = nil
  ) -> MatrixOperand<Number> {
    guard precision == .bf16 else { return .fp32(x) }
    let rounded = view(x.shape, at: offset, of: count)
    Profile.measure(\.rounding) { round(x, into: rounded) }
    return .bf16(rounded)
  }

  /// Returns what `operand` returned for x the last time, without rounding again.
  public func kept<Number: Scalar>(
    _ x: Tensor<Number>, _ precision: ComputePrecision, at offset: Int = 0, of count: Int? = nil
  ) -> MatrixOperand<Number> { precision == .bf16 ? .bf16(view(x.shape, at: offset, of: count)) : .fp32(x) }
}

/// Memory, as of a `Buffer`, for a matrix in either precision that only products and the kernels between them read.
public final class MatrixOperandBuffer<S: Scalar> {
  let fp32 = Buffer<S>()
  let bf16 = BFloat16Buffer()

  public init() {}

  /// Returns a view of `shape` at the buffer's beginning, which holds whatever was last written there.
  public func operand(_ shape: Shape, _ precision: ComputePrecision) -> MatrixOperand<S> {
    precision == .bf16 ? .bf16(bf16.view(shape)) : .fp32(fp32.tensor(shape))
  }
}

/// y ← x, rounded if y is bf16.
public func copy<S: Scalar>(_ x: Tensor<S>, into y: MatrixOperand<S>) {
  switch y {
  case .fp32(let y): copy(x, into: y)
  case .bf16(let y): Profile.measure(\.rounding) { round(x, into: y) }
  }
}

/// y ← x, rounded to nearest, ties to even; NaN stays NaN.
@specialized(where S == Float) @specialized(where S == Double)
public func round<S: Scalar>(_ x: Tensor<S>, into y: BFloat16Matrix) {
  precondition(x.count == y.count, "\(x.shape) rounded into \(y.shape)")
  let (p, q) = (x.pointer, y.pointer)
  Threads.split(x.count, grain: 1 << 15) { _, range in for i in range { q[i] = bfloat16(p[i]) } }
}

/// y ← x.
@specialized(where S == Float) @specialized(where S == Double)
public func copy<S: Scalar>(_ x: MatrixOperand<S>, into y: Tensor<S>) {
  if case .fp32(let x) = x { return copy(x, into: y) }
  precondition(x.shape.count == y.count, "\(x.shape) copied into \(y.shape)")
  let (p, q) = (BFloat16Elements(x), y.pointer)
  Threads.split(y.count, grain: 1 << 15) { _, range in for i in range { q[i] = p[i] } }
}

/// y ← y + x, for numbers x of bfloat16. The sum is held in y's own scalar.
@specialized(where S == Float) @specialized(where S == Double)
public func add<S: Scalar>(_ x: BFloat16Matrix, to y: Tensor<S>) {
  precondition(x.count == y.count, "add of \(x.shape) to \(y.shape)")
  let (p, q) = (BFloat16Elements<S>(x.pointer), y.pointer)
  Threads.split(y.count, grain: 1 << 16) { _, range in for i in range { q[i] += p[i] } }
}

/// y ← y + x, both in the same precision.
@specialized(where S == Float) @specialized(where S == Double)
public func add<S: Scalar>(_ x: MatrixOperand<S>, to y: MatrixOperand<S>) {
  precondition(x.shape.count == y.shape.count, "add of \(x.shape) to \(y.shape)")
  if case (.fp32(let x), .fp32(let y)) = (x, y) { return add(x, to: y) }
  let (p, q) = (BFloat16Elements(x), BFloat16Elements(y))
  Threads.split(x.shape.count, grain: 1 << 16) { _, range in for i in range { q[i] += p[i] } }
}
