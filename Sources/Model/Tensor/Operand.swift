/// How matrix products take their operands. Whatever they read, they add up in the model's own scalar, and may round
/// what they give back.
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
    Profile.measure(\.rounding) { round(x, into: rounded) }
    return .rounded(rounded)
  }

  /// What `operand` last gave of x.
  public func kept<S: Scalar>(
    _ x: Tensor<S>, _ precision: Precision, at offset: Int = 0, of count: Int? = nil
  ) -> Operand<S> {
    precision == .bf16 ? .rounded(view(x.shape, at: offset, of: count)) : .exact(x)
  }
}

/// Memory for a matrix that nothing but products and the kernels between them reads: exact, or rounded and then in half
/// the memory. It grows to its high-water mark and stays.
public final class OperandBuffer<S: Scalar> {
  private let exact = Buffer<S>()
  private let rounded = RoundedBuffer()

  public init() {}

  /// A view of `shape` at the buffer's beginning; its contents are whatever was last written there.
  public func operand(_ shape: Shape, _ precision: Precision) -> Operand<S> {
    precision == .bf16 ? .rounded(rounded.view(shape)) : .exact(exact.tensor(shape))
  }
}

/// y ← x, rounded where y is.
public func copy<S: Scalar>(_ x: Tensor<S>, into y: Operand<S>) {
  switch y {
  case .exact(let y): copy(x, into: y)
  case .rounded(let y): Profile.measure(\.rounding) { round(x, into: y) }
  }
}

/// y ← x.
public func copy<S: Scalar>(_ x: Operand<S>, into y: Tensor<S>) {
  switch x {
  case .exact(let x): copy(x, into: y)
  case .rounded(let x): widen(x, into: y)
  }
}

/// y ← y + x; both exact or both rounded.
@specialized(where S == Float)
@specialized(where S == Double)
public func add<S: Scalar>(_ x: Operand<S>, to y: Operand<S>) {
  precondition(x.shape.count == y.shape.count, "add of \(x.shape) to \(y.shape)")
  if case (.exact(let x), .exact(let y)) = (x, y) { return add(x, to: y) }
  let (p, q) = (RoundedElements(x), RoundedElements(y))
  Threads.split(x.shape.count, grain: 1 << 16) { _, range in
    for i in range { q[i] += p[i] }
  }
}

/// C = op(A) op(B) + bias, or added to an exact C, where op transposes on request and the bias has an element for each
/// column of C. A and B are both exact or both rounded; C may be rounded where they are.
///
/// Sums of rounded operands are kept in S, so the result is that of an exact product of the rounded numbers but for the
/// order of its sums; into a rounded C they are rounded once.
///
/// Long rounded matrices are multiplied `inPieces` of few sizes (`ProductPieces`).
public func matmul<S: Scalar>(
  _ a: Operand<S>, _ b: Operand<S>, into c: Operand<S>, transposeA: Bool = false, transposeB: Bool = false,
  bias: Tensor<S>? = nil, accumulate: Bool = false, inPieces: Bool = true
) {
  precondition(bias == nil || bias?.count == c.columns, "a bias of \(bias?.shape ?? Shape(0)) for \(c.shape)")
  switch (a, b, c) {
  case (.exact(let a), .exact(let b), .exact(let c)):
    if let bias { accumulate ? add(c, bias: bias, into: c) : broadcast(bias, into: c) }
    matmul(
      a, b, into: c, transposeA: transposeA, transposeB: transposeB, beta: accumulate || bias != nil ? 1 : 0)
  case (.rounded(let a), .rounded(let b), _):
    multiply(
      a, b, into: c, transposeA: transposeA, transposeB: transposeB, bias: bias, accumulate: accumulate,
      inPieces: inPieces)
  default: preconditionFailure("a product of exact and rounded matrices: \(a.shape), \(b.shape) into \(c.shape)")
  }
}

/// The same into an exact C.
public func matmul<S: Scalar>(
  _ a: Operand<S>, _ b: Operand<S>, into c: Tensor<S>, transposeA: Bool = false, transposeB: Bool = false,
  bias: Tensor<S>? = nil, accumulate: Bool = false
) {
  matmul(
    a, b, into: .exact(c), transposeA: transposeA, transposeB: transposeB, bias: bias, accumulate: accumulate)
}

private func multiply<S: Scalar>(
  _ a: Rounded, _ b: Rounded, into c: Operand<S>, transposeA: Bool, transposeB: Bool, bias: Tensor<S>?,
  accumulate: Bool, inPieces: Bool
) {
  let (m, n, k) = productSizes(a.shape, b.shape, c.shape, transposeA: transposeA, transposeB: transposeB)
  guard m > 0, n > 0 else { return }
  guard k > 0 else { return beginSums(c, bias: bias, accumulate: accumulate) }
  measureProduct {
    switch c {
    case .exact(let c):
      // Pieces of A's rows as they are stored: of C's rows, or of the sums.
      for rows in inPieces ? ProductPieces(a.rows) : ProductPieces(whole: a.rows) {
        let isFirst = rows.lowerBound == 0
        let x = a.pointer + rows.lowerBound * a.columns
        if transposeA {
          S.multiplyRounded(
            transposeA: true, transposeB: transposeB, m, n, rows.count, x, m,
            b.pointer + rows.lowerBound * (transposeB ? 1 : n), b.columns, bias: isFirst ? bias?.pointer : nil,
            accumulate: accumulate || !isFirst, c.pointer, n)
        } else {
          S.multiplyRounded(
            transposeA: false, transposeB: transposeB, rows.count, n, k, x, k, b.pointer, b.columns,
            bias: bias?.pointer, accumulate: accumulate, c.pointer + rows.lowerBound * n, n)
        }
      }
    case .rounded(let c):
      precondition(!accumulate && !transposeA, "rounded sums cannot be added to")
      for rows in inPieces ? ProductPieces(m) : ProductPieces(whole: m) {
        S.multiplyRounded(
          transposeA: false, transposeB: transposeB, rows.count, n, k, a.pointer + rows.lowerBound * k, k, b.pointer,
          b.columns, bias: bias?.pointer, c.pointer + rows.lowerBound * n, n)
      }
    }
  }
}

/// Ranges that together are 0 ..< rows: as many of 2,048 as there are, and then the binary digits of what is left, each
/// alone; up to 512 rows the four leading digits together.
///
/// Packed captions give another number of rows at every step, and oneDNN makes code for each size that it meets, up to
/// 0.5 MiB: so it meets few, and goes on at the same pace.
struct ProductPieces: Sequence, IteratorProtocol {
  private let rows: Int
  private let isWhole: Bool
  private var done = 0

  init(_ rows: Int) { (self.rows, isWhole) = (rows, false) }
  /// One piece: rows of pictures, whose number hardly ever changes.
  init(whole rows: Int) { (self.rows, isWhole) = (rows, true) }

  mutating func next() -> Range<Int>? {
    let rest = rows - done
    guard rest > 0 else { return nil }
    let digits = Int.bitWidth - rest.leadingZeroBitCount
    let together = rows <= 512 && done == 0 ? Swift.min(digits, 4) : 1
    let count = isWhole ? rest : Swift.min(2048, (rest >> (digits - together)) << (digits - together))
    defer { done += count }
    return done..<done + count
  }
}

/// C as a product over nothing leaves it: the bias, or 0, or what it was and the bias.
private func beginSums<S: Scalar>(_ c: Operand<S>, bias: Tensor<S>?, accumulate: Bool) {
  switch c {
  case .exact(let c):
    if !accumulate { fill(c, 0) }
    if let bias { add(c, bias: bias, into: c) }
  case .rounded(let c):
    for i in 0..<c.rows {
      for j in 0..<c.columns { c.pointer[i * c.columns + j] = bfloat16(bias?[j] ?? 0) }
    }
  }
}
