internal import COpenBLAS
internal import Synchronization

/// The form of a matrix product C = op(A) op(B) on row-major memory, where op transposes on request.
///
/// op(A) is [m, k], op(B) [k, n] and C [m, n]. The rows of A, B and C, as they are stored, begin lda, ldb and ldc
/// elements apart, so that a product can read and write some columns of wider matrices.
public struct GEMM: Hashable, Sendable {
  /// The transpositions of A and B in BLAS's letters: `n` for none, `t` for transposed.
  enum Form { case nn, nt, tn }

  let transposeA: Bool
  let transposeB: Bool
  var m: Int
  let n: Int
  var k: Int
  var lda: Int
  var ldb: Int
  var ldc: Int

  init(_ form: Form, m: Int, n: Int, k: Int, lda: Int, ldb: Int, ldc: Int) {
    (transposeA, transposeB) = (form == .tn, form == .nt)
    (self.m, self.n, self.k) = (m, n, k)
    (self.lda, self.ldb, self.ldc) = (lda, ldb, ldc)
  }

  /// Describes the product of whole matrices with these shapes, as they are stored; traps if they do not fit.
  init(_ a: Shape, _ b: Shape, into c: Shape, transposeA: Bool, transposeB: Bool) {
    let (m, k) = transposeA ? (a.columns, a.rows) : (a.rows, a.columns)
    let (inner, n) = transposeB ? (b.columns, b.rows) : (b.rows, b.columns)
    precondition(
      inner == k && c.rows == m && c.columns == n,
      "product of \(a)\(transposeA ? "ᵀ" : "") and \(b)\(transposeB ? "ᵀ" : "") into \(c)")
    (self.transposeA, self.transposeB) = (transposeA, transposeB)
    (self.m, self.n, self.k) = (m, n, k)
    (lda, ldb, ldc) = (a.columns, b.columns, n)
  }

  /// The same product of matrices whose rows follow one another without gaps.
  var dense: GEMM {
    var dense = self
    (dense.lda, dense.ldb, dense.ldc) = (transposeA ? m : k, transposeB ? k : n, n)
    return dense
  }

  /// Restricts the product to `count` rows of A as it is stored: rows of C, or summands if A is transposed.
  fileprivate func piece(_ count: Int) -> GEMM {
    var piece = self
    if transposeA { piece.k = count } else { piece.m = count }
    return piece
  }
}

/// Matrix products by BLAS.
public protocol MatrixProduct {
  /// C = α op(A) op(B) + β C.
  static func multiply(
    _ product: GEMM, alpha: Self, _ a: UnsafePointer<Self>, _ b: UnsafePointer<Self>, beta: Self,
    _ c: UnsafeMutablePointer<Self>)
}

extension Float: MatrixProduct {
  public static func multiply(
    _ product: GEMM, alpha: Float, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, beta: Float,
    _ c: UnsafeMutablePointer<Float>
  ) {
    Profile.note(product)
    cblas_sgemm(
      CblasRowMajor, product.transposeA ? CblasTrans : CblasNoTrans, product.transposeB ? CblasTrans : CblasNoTrans,
      blasint(product.m), blasint(product.n), blasint(product.k), alpha, a, blasint(product.lda), b,
      blasint(product.ldb), beta, c, blasint(product.ldc))
  }
}

extension Double: MatrixProduct {
  public static func multiply(
    _ product: GEMM, alpha: Double, _ a: UnsafePointer<Double>, _ b: UnsafePointer<Double>, beta: Double,
    _ c: UnsafeMutablePointer<Double>
  ) {
    Profile.note(product)
    cblas_dgemm(
      CblasRowMajor, product.transposeA ? CblasTrans : CblasNoTrans, product.transposeB ? CblasTrans : CblasNoTrans,
      blasint(product.m), blasint(product.n), blasint(product.k), alpha, a, blasint(product.lda), b,
      blasint(product.ldb), beta, c, blasint(product.ldc))
  }
}

/// The matrix C that a product of bfloat16 numbers writes.
public enum RoundedResult<S> {
  /// C is written in full precision.
  case fp32(UnsafeMutablePointer<S>)
  /// The product is added to C, in full precision.
  case sum(UnsafeMutablePointer<S>)
  /// C is rounded to bfloat16, once, after the sums.
  case bf16(UnsafeMutablePointer<UInt16>)
}

/// Matrix products of bfloat16 numbers.
public protocol RoundedProduct {
  /// C = op(A) op(B) + bias, where the bias, if there is one, has n elements.
  static func multiplyRounded(
    _ product: GEMM, _ a: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, bias: UnsafePointer<Self>?,
    into c: RoundedResult<Self>)
}

extension Float: RoundedProduct {
  public static func multiplyRounded(
    _ product: GEMM, _ a: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, bias: UnsafePointer<Float>?,
    into c: RoundedResult<Float>
  ) {
    guard OneDNN.hasRoundedProducts else { return multiplyWidened(product, a, b, bias: bias, into: c) }
    Profile.note(product, .bf16)
    OneDNN.multiply(product, a, b, bias: bias, into: c)
  }
}

extension Double: RoundedProduct {
  /// Sums in Double, as the reference for Float.
  public static func multiplyRounded(
    _ product: GEMM, _ a: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, bias: UnsafePointer<Double>?,
    into c: RoundedResult<Double>
  ) {
    multiplyWidened(product, a, b, bias: bias, into: c)
  }
}

/// Products of bfloat16 numbers that are widened first, for scalars and processors without products of bfloat16. They
/// are no faster than those of fp32, to which a run falls back there; tests hold both forms to the same numbers.
extension Scalar {
  fileprivate static func multiplyWidened(
    _ product: GEMM, _ a: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, bias: UnsafePointer<Self>?,
    into c: RoundedResult<Self>
  ) {
    switch c {
    case .fp32(let c): multiplyWidened(product, a, b, bias: bias, beta: 0, into: c)
    case .sum(let c): multiplyWidened(product, a, b, bias: bias, beta: 1, into: c)
    case .bf16(let c):
      let (m, n) = (product.m, product.n)
      var sums = [Self](repeating: 0, count: m * n)
      var narrow = product
      narrow.ldc = n
      multiplyWidened(narrow, a, b, bias: bias, beta: 0, into: &sums)
      for i in 0..<m {
        for j in 0..<n { c[i * product.ldc + j] = bfloat16(sums[i * n + j]) }
      }
    }
  }

  private static func multiplyWidened(
    _ product: GEMM, _ a: UnsafePointer<UInt16>, _ b: UnsafePointer<UInt16>, bias: UnsafePointer<Self>?, beta: Self,
    into c: UnsafeMutablePointer<Self>
  ) {
    let (m, n, k) = (product.m, product.n, product.k)
    var wide = product.dense
    wide.ldc = product.ldc
    let x = widened(a, rows: product.transposeA ? k : m, columns: wide.lda, stride: product.lda)
    let y = widened(b, rows: product.transposeB ? n : k, columns: wide.ldb, stride: product.ldb)
    multiply(wide, alpha: 1, x, y, beta: beta, c)
    guard let bias else { return }
    for i in 0..<m {
      for j in 0..<n { c[i * product.ldc + j] += bias[j] }
    }
  }

  private static func widened(_ x: UnsafePointer<UInt16>, rows: Int, columns: Int, stride: Int) -> [Self] {
    (0..<rows * columns).map { Self(Float(bitPattern: UInt32(x[$0 / columns * stride + $0 % columns]) << 16)) }
  }
}

/// C = α op(A) op(B) + β C, where op transposes on request and A, B, C are matrices (all sizes but the last are rows).
///
/// With β = 0 the previous contents of C do not matter, even if they are NaN.
public func matmul<S: Scalar>(
  _ a: Tensor<S>, _ b: Tensor<S>, into c: Tensor<S>, transposeA: Bool = false, transposeB: Bool = false,
  alpha: S = 1, beta: S = 0
) {
  let product = GEMM(a.shape, b.shape, into: c.shape, transposeA: transposeA, transposeB: transposeB)
  guard product.m > 0, product.n > 0 else { return }
  guard product.k > 0 else {
    if beta == 0 { fill(c, 0) } else if beta != 1 { scale(c, by: beta) }
    return
  }
  measureProduct {
    S.multiply(product, alpha: alpha, a.pointer, b.pointer, beta: beta, c.pointer)
  }
}

/// C = op(A) op(B) + bias, or C + op(A) op(B) + bias with `accumulate`, where op transposes on request and the bias has
/// an element for each column of C.
///
/// A and B have the same precision. C may be bf16 if they are and A is not transposed; then nothing is added to it, and
/// the sums are rounded once. Products of bf16 operands are summed in S, so they differ from fp32 products of the
/// rounded numbers only by the order of the sums. Long bf16 matrices are multiplied in pieces of few different sizes
/// (see `ProductPieces`).
public func matmul<S: Scalar>(
  _ a: MatrixOperand<S>, _ b: MatrixOperand<S>, into c: MatrixOperand<S>, transposeA: Bool = false,
  transposeB: Bool = false, bias: Tensor<S>? = nil, accumulate: Bool = false
) {
  let product = GEMM(a.shape, b.shape, into: c.shape, transposeA: transposeA, transposeB: transposeB)
  multiply(product, a, b, into: c, bias: bias, accumulate: accumulate, inPieces: true)
}

/// C = op(A) op(B) + bias with a C in full precision, as above.
public func matmul<S: Scalar>(
  _ a: MatrixOperand<S>, _ b: MatrixOperand<S>, into c: Tensor<S>, transposeA: Bool = false, transposeB: Bool = false,
  bias: Tensor<S>? = nil, accumulate: Bool = false
) {
  matmul(
    a, b, into: .fp32(c), transposeA: transposeA, transposeB: transposeB, bias: bias, accumulate: accumulate)
}

/// C = op(A) op(B), or C + op(A) op(B), in one piece: for matrices whose sizes hardly ever change.
public func matmul<S: Scalar>(
  whole a: MatrixOperand<S>, _ b: MatrixOperand<S>, into c: MatrixOperand<S>, transposeA: Bool = false,
  transposeB: Bool = false, accumulate: Bool = false
) {
  let product = GEMM(a.shape, b.shape, into: c.shape, transposeA: transposeA, transposeB: transposeB)
  multiply(product, a, b, into: c, bias: nil, accumulate: accumulate, inPieces: false)
}

private func multiply<S: Scalar>(
  _ product: GEMM, _ a: MatrixOperand<S>, _ b: MatrixOperand<S>, into c: MatrixOperand<S>, bias: Tensor<S>?,
  accumulate: Bool, inPieces: Bool
) {
  precondition(bias == nil || bias?.count == c.columns, "a bias of \(bias?.shape ?? Shape(0)) for \(c.shape)")
  switch (a, b, c) {
  case (.fp32(let a), .fp32(let b), .fp32(let c)):
    if let bias { accumulate ? add(c, bias: bias, into: c) : broadcast(bias, into: c) }
    matmul(
      a, b, into: c, transposeA: product.transposeA, transposeB: product.transposeB,
      beta: accumulate || bias != nil ? 1 : 0)
  case (.bf16(let a), .bf16(let b), _):
    guard product.m > 0, product.n > 0 else { return }
    guard product.k > 0 else { return beginSums(c, bias: bias, accumulate: accumulate) }
    let pieces = inPieces ? ProductPieces(a.rows) : ProductPieces(whole: a.rows)
    measureProduct { multiply(product, a, b, into: c, bias: bias, accumulate: accumulate, pieces: pieces) }
  default: preconditionFailure("a product of fp32 and bf16 matrices: \(a.shape), \(b.shape) into \(c.shape)")
  }
}

/// Multiplies piece by piece; the pieces are rows of A as it is stored: rows of C, or summands if A is transposed.
private func multiply<S: Scalar>(
  _ product: GEMM, _ a: BFloat16Matrix, _ b: BFloat16Matrix, into c: MatrixOperand<S>, bias: Tensor<S>?,
  accumulate: Bool, pieces: ProductPieces
) {
  for rows in pieces {
    let (piece, isFirst) = (product.piece(rows.count), rows.lowerBound == 0)
    let x = a.pointer + rows.lowerBound * product.lda
    switch c {
    case .fp32(let c) where product.transposeA:
      S.multiplyRounded(
        piece, x, b.pointer + rows.lowerBound * (product.transposeB ? 1 : product.ldb),
        bias: isFirst ? bias?.pointer : nil, into: accumulate || !isFirst ? .sum(c.pointer) : .fp32(c.pointer))
    case .fp32(let c):
      let z = c.pointer + rows.lowerBound * product.n
      S.multiplyRounded(piece, x, b.pointer, bias: bias?.pointer, into: accumulate ? .sum(z) : .fp32(z))
    case .bf16(let c):
      precondition(!accumulate && !product.transposeA, "rounded sums cannot be added to")
      S.multiplyRounded(
        piece, x, b.pointer, bias: bias?.pointer, into: .bf16(c.pointer + rows.lowerBound * product.n))
    }
  }
}

/// Ranges that together are 0 ..< rows: as many of 2,048 rows as fit, then one for each binary digit of the rest; up to
/// 512 rows, the four leading digits share a range.
///
/// Packed captions have a different number of rows at every step, and oneDNN generates code for each size, up to
/// 0.5 MiB. In such pieces it sees few sizes, and is as fast.
struct ProductPieces: Sequence, IteratorProtocol {
  private let rows: Int
  private let isWhole: Bool
  private var done = 0

  init(_ rows: Int) { (self.rows, isWhole) = (rows, false) }
  /// Makes one piece, for rows whose number hardly ever changes, such as those of images.
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

/// Sets C to a product over no summands: the bias or 0, or C + bias with `accumulate`.
private func beginSums<S: Scalar>(_ c: MatrixOperand<S>, bias: Tensor<S>?, accumulate: Bool) {
  switch c {
  case .fp32(let c):
    if !accumulate { fill(c, 0) }
    if let bias { add(c, bias: bias, into: c) }
  case .bf16(let c):
    for i in 0..<c.rows {
      for j in 0..<c.columns { c.pointer[i * c.columns + j] = bfloat16(bias?[j] ?? 0) }
    }
  }
}

/// Counts a product and, while a profile is being recorded, times it.
@inline(__always)
func measureProduct(_ body: () -> Void) {
  MatrixProducts.begun.add(1, ordering: .relaxed)
  Profile.measure(\.matmul, body)
}

/// The number of matrix products that this process has begun, a sign of life during long steps.
public enum MatrixProducts {
  static let begun = Atomic<Int>(0)

  public static var count: Int { begun.load(ordering: .relaxed) }
}

func setMatrixProductThreads(_ count: Int) {
  openblas_set_num_threads(Int32(count))
}

/// Facts that OpenBLAS reports: the kernel that it chose for this processor, its build, and its threads.
public enum BLAS {
  public static var kernel: String { String(cString: openblas_get_corename()) }
  public static var configuration: String { String(cString: openblas_get_config()) }
  public static var threads: Int { Int(openblas_get_num_threads()) }
}
