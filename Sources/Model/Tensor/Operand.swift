/// How matrix products take their operands. Whatever they read, they add up and give back in the model's own scalar.
public enum Precision: String, Sendable, CaseIterable, Codable {
  /// As they are.
  case fp32
  /// Rounded to bfloat16, which is half the memory and, on processors with such products, twice the speed or more.
  case bf16
}

/// A matrix as a product reads it.
public enum Operand<S: Scalar>: Sendable {
  case exact(Tensor<S>)
  case rounded(Rounded)

  public var shape: Shape {
    switch self {
    case .exact(let x): x.shape
    case .rounded(let x): x.shape
    }
  }

  public var precision: Precision {
    switch self {
    case .exact: .fp32
    case .rounded: .bf16
    }
  }

  public var rows: Int { shape.rows }
  public var columns: Int { shape.columns }

  /// The same numbers under another shape of equal count.
  public func reshaped(_ shape: Shape) -> Operand {
    switch self {
    case .exact(let x): .exact(x.reshaped(shape))
    case .rounded(let x): .rounded(x.reshaped(shape))
    }
  }

  /// Consecutive rows, as a matrix of the same columns.
  public func rows(_ range: Range<Int>) -> Operand {
    switch self {
    case .exact(let x): .exact(x.rows(range))
    case .rounded(let x): .rounded(x.rows(range))
    }
  }
}

extension RoundedBuffer {
  /// x as products of this precision read it: x itself, or rounded into this buffer.
  ///
  /// Where many share a buffer of `count` numbers, x has its place at `offset`.
  public func operand<S: Scalar>(
    _ x: Tensor<S>, _ precision: Precision, at offset: Int = 0, of count: Int? = nil
  ) -> Operand<S> {
    guard precision == .bf16 else { return .exact(x) }
    let rounded = view(x.shape, at: offset, of: count)
    round(x, into: rounded)
    return .rounded(rounded)
  }

  /// What `operand` last gave of x.
  public func kept<S: Scalar>(
    _ x: Tensor<S>, _ precision: Precision, at offset: Int = 0, of count: Int? = nil
  ) -> Operand<S> {
    precision == .bf16 ? .rounded(view(x.shape, at: offset, of: count)) : .exact(x)
  }
}

/// What a layer keeps for no other use than to multiply with it again: exact, or rounded and then in half the memory.
public final class OperandBuffer<S: Scalar> {
  private let exact = Buffer<S>()
  private let rounded = RoundedBuffer()

  public init() {}

  /// Where the numbers are to be written before `keep` is called: memory that stays, or `scratch`.
  public func place(_ shape: Shape, _ precision: Precision, scratch: Buffer<S>) -> Tensor<S> {
    (precision == .bf16 ? scratch : exact).tensor(shape)
  }

  /// Keeps what was written to `place`.
  public func keep(_ placed: Tensor<S>, _ precision: Precision) -> Operand<S> { rounded.operand(placed, precision) }

  /// Room for an operand that is not made by rounding.
  public func room(_ shape: Shape, _ precision: Precision) -> Operand<S> { kept(shape, precision) }

  /// What was kept.
  public func kept(_ shape: Shape, _ precision: Precision) -> Operand<S> {
    precision == .bf16 ? .rounded(rounded.view(shape)) : .exact(exact.tensor(shape))
  }
}

/// C = op(A) op(B) + β C with β 0 or 1, where op transposes on request; A and B are both exact or both rounded.
///
/// Sums of rounded operands are kept in the scalar of C, so the result is that of an exact product of the rounded
/// numbers but for the order of its sums.
public func matmul<S: Scalar>(
  _ a: Operand<S>, _ b: Operand<S>, into c: Tensor<S>, transposeA: Bool = false, transposeB: Bool = false,
  accumulate: Bool = false
) {
  switch (a, b) {
  case (.exact(let a), .exact(let b)):
    matmul(a, b, into: c, transposeA: transposeA, transposeB: transposeB, beta: accumulate ? 1 : 0)
  case (.rounded(let a), .rounded(let b)):
    let (m, k) = transposeA ? (a.columns, a.rows) : (a.rows, a.columns)
    let (inner, n) = transposeB ? (b.columns, b.rows) : (b.rows, b.columns)
    precondition(
      inner == k && c.rows == m && c.columns == n,
      "product of \(a.shape)\(transposeA ? "ᵀ" : "") and \(b.shape)\(transposeB ? "ᵀ" : "") into \(c.shape)")
    guard m > 0, n > 0 else { return }
    guard k > 0 else {
      if !accumulate { fill(c, 0) }
      return
    }
    Profile.measure(\.matmul) {
      S.multiplyRounded(
        transposeA: transposeA, transposeB: transposeB, m, n, k, a.pointer, b.pointer, accumulate: accumulate,
        c.pointer)
    }
  default: preconditionFailure("a product of an exact and a rounded matrix: \(a.shape), \(b.shape)")
  }
}
