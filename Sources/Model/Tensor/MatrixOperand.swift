/// The precision in which matrix products read their operands. They always sum in the model's own scalar, and may round
/// the result.
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

  public var precision: ComputePrecision {
    switch self {
    case .fp32: .fp32
    case .bf16: .bf16
    }
  }

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

extension BFloat16Buffer {
  /// Returns x for products of this precision: x itself, or x rounded into this buffer.
  ///
  /// If several matrices share a buffer of `count` numbers, x is stored at `offset`.
  public func operand<S: Scalar>(
    _ x: Tensor<S>, _ precision: ComputePrecision, at offset: Int = 0, of count: Int? = nil
  ) -> MatrixOperand<S> {
    guard precision == .bf16 else { return .fp32(x) }
    let rounded = view(x.shape, at: offset, of: count)
    Profile.measure(\.rounding) { round(x, into: rounded) }
    return .bf16(rounded)
  }

  /// Returns what `operand` returned for x the last time, without rounding again.
  public func kept<S: Scalar>(
    _ x: Tensor<S>, _ precision: ComputePrecision, at offset: Int = 0, of count: Int? = nil
  ) -> MatrixOperand<S> {
    precision == .bf16 ? .bf16(view(x.shape, at: offset, of: count)) : .fp32(x)
  }
}

/// Memory for a matrix that only products and the kernels between them read, in either precision. It grows to its
/// high-water mark and stays.
public final class MatrixOperandBuffer<S: Scalar> {
  private let fp32 = Buffer<S>()
  private let bf16 = BFloat16Buffer()

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

/// y ← x.
public func copy<S: Scalar>(_ x: MatrixOperand<S>, into y: Tensor<S>) {
  switch x {
  case .fp32(let x): copy(x, into: y)
  case .bf16(let x): widen(x, into: y)
  }
}

/// y ← y + x, both in the same precision.
@specialized(where S == Float) @specialized(where S == Double)
public func add<S: Scalar>(_ x: MatrixOperand<S>, to y: MatrixOperand<S>) {
  precondition(x.shape.count == y.shape.count, "add of \(x.shape) to \(y.shape)")
  if case (.fp32(let x), .fp32(let y)) = (x, y) { return add(x, to: y) }
  let (p, q) = (BFloat16Elements(x), BFloat16Elements(y))
  Threads.split(x.shape.count, grain: 1 << 16) { _, range in
    for i in range { q[i] += p[i] }
  }
}
