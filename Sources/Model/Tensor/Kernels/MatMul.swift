internal import COpenBLAS
internal import Synchronization

/// A matrix product C = op(A) op(B) on row-major memory, where op transposes on request: op(A) is [m, k], op(B) [k, n]
/// and C [m, n]. The rows of A, B and C, as they are stored, begin lda, ldb and ldc elements apart, so that a product
/// can read and write some columns of wider matrices.
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
    (transposeA, transposeB, self.m, self.n, self.k) = (form == .tn, form == .nt, m, n, k)
    (self.lda, self.ldb, self.ldc) = (lda, ldb, ldc)
  }

  /// Describes the product of whole matrices with these shapes, as they are stored; traps if they do not fit.
  init(_ a: Shape, _ b: Shape, into c: Shape, transposeA: Bool, transposeB: Bool) {
    let (m, k) = transposeA ? (a.columns, a.rows) : (a.rows, a.columns)
    let (inner, n) = transposeB ? (b.columns, b.rows) : (b.rows, b.columns)
    precondition(
      inner == k && c.rows == m && c.columns == n,
      "product of \(a)\(transposeA ? "ᵀ" : "") and \(b)\(transposeB ? "ᵀ" : "") into \(c)")
    (self.transposeA, self.transposeB, self.m, self.n, self.k) = (transposeA, transposeB, m, n, k)
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

/// C = op(A) op(B) + bias for matrices of bfloat16 numbers; the bias, if there is one, has n elements.
public struct RoundedProduct<S> {
  let gemm: GEMM
  let a: UnsafePointer<UInt16>
  let b: UnsafePointer<UInt16>
  var bias: UnsafePointer<S>?
  /// Numbers in full precision, unless the product `rounds`.
  let c: UnsafeMutableRawPointer
  /// True if the product is added to C.
  var adds = false
  /// True if C is rounded to bfloat16, once, after the sums.
  var rounds = false
}

/// Matrix products in the scalar's own precision, and of bfloat16 numbers.
public protocol MatrixProduct {
  /// C = α op(A) op(B) + β C.
  static func multiply(
    _ product: GEMM, alpha: Self, _ a: UnsafePointer<Self>, _ b: UnsafePointer<Self>, beta: Self,
    _ c: UnsafeMutablePointer<Self>)
  /// C = op(A) op(B) + bias.
  static func multiply(_ product: RoundedProduct<Self>)
}

extension Float: MatrixProduct {
  public static func multiply(
    _ product: GEMM, alpha: Float, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, beta: Float,
    _ c: UnsafeMutablePointer<Float>
  ) {
    Profile.note(product)
    SinglePrecisionProducts.preferred.serving(product).multiply(product, alpha: alpha, a, b, beta: beta, c)
  }

  public static func multiply(_ product: RoundedProduct<Float>) {
    guard OneDNN.hasRoundedProducts else { return multiplyWidened(product) }
    Profile.note(product.gemm, .bf16)
    OneDNN.multiply(product)
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

  /// Sums in Double, as the reference for Float.
  public static func multiply(_ product: RoundedProduct<Double>) { multiplyWidened(product) }
}

/// Products of bfloat16 numbers that are widened first, for scalars and processors without products of bfloat16.
extension Scalar {
  fileprivate static func multiplyWidened(_ product: RoundedProduct<Self>) {
    let (m, n, ldc) = (product.gemm.m, product.gemm.n, product.gemm.ldc)
    guard product.rounds else {
      return multiplyWidened(product, into: product.c.assumingMemoryBound(to: Self.self), ldc: ldc)
    }
    let c = product.c.assumingMemoryBound(to: UInt16.self)
    var sums = [Self](repeating: 0, count: m * n)
    multiplyWidened(product, into: &sums, ldc: n)
    for i in 0..<m { for j in 0..<n { c[i * ldc + j] = bfloat16(sums[i * n + j]) } }
  }

  private static func multiplyWidened(_ product: RoundedProduct<Self>, into c: Pointer<Self>, ldc: Int) {
    let (gemm, beta): (GEMM, Self) = (product.gemm, product.adds ? 1 : 0)
    var wide = gemm.dense
    wide.ldc = ldc
    let x = widened(product.a, rows: gemm.transposeA ? gemm.k : gemm.m, columns: wide.lda, stride: gemm.lda)
    let y = widened(product.b, rows: gemm.transposeB ? gemm.n : gemm.k, columns: wide.ldb, stride: gemm.ldb)
    multiply(wide, alpha: 1, x, y, beta: beta, c)
    guard let bias = product.bias else { return }
    for i in 0..<gemm.m { for j in 0..<gemm.n { c[i * ldc + j] += bias[j] } }
  }

  private static func widened(_ x: UnsafePointer<UInt16>, rows: Int, columns: Int, stride: Int) -> [Self] {
    (0..<rows * columns).map { Self(Float(bitPattern: UInt32(x[$0 / columns * stride + $0 % columns]) << 16)) }
  }
}

/// C = α op(A) op(B) + β C, where op transposes on request. With β = 0 the previous C does not matter, even if NaN.
public func matmul<S: Scalar>(
  _ a: Tensor<S>, _ b: Tensor<S>, into c: Tensor<S>, transposeA: Bool = false, transposeB: Bool = false,
  alpha: S = 1, beta: S = 0
) {
  let product = GEMM(a.shape, b.shape, into: c.shape, transposeA: transposeA, transposeB: transposeB)
  guard product.m > 0, product.n > 0 else { return }
  guard product.k > 0 else { return beta == 0 ? fill(c, 0) : scale(c, by: beta) }
  measureProduct { S.multiply(product, alpha: alpha, a.pointer, b.pointer, beta: beta, c.pointer) }
}

/// C = op(A) op(B) + bias, or C + op(A) op(B) + bias with `accumulate`; the bias has an element for each column of C.
/// A and B have the same precision; products of bf16 operands are summed in S too. C may be bf16 if they are and A is
/// not transposed; then nothing is added, and the sums are rounded once. Long bf16 matrices are multiplied in pieces.
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
) { matmul(a, b, into: .fp32(c), transposeA: transposeA, transposeB: transposeB, bias: bias, accumulate: accumulate) }

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
    let beta: S = accumulate || bias != nil ? 1 : 0
    matmul(a, b, into: c, transposeA: product.transposeA, transposeB: product.transposeB, beta: beta)
  case (.bf16(let a), .bf16(let b), _):
    guard product.m > 0, product.n > 0 else { return }
    guard product.k > 0 else { return beginSums(c, bias: bias, accumulate: accumulate) }
    measureProduct {
      for rows in ProductPieces(a.rows, whole: !inPieces) {
        let (piece, x) = (product.piece(rows.count), a.pointer + rows.lowerBound * product.lda)
        switch c {
        case .fp32(let c) where product.transposeA:
          let y = b.pointer + rows.lowerBound * (product.transposeB ? 1 : product.ldb)
          let (isFirst, added) = (rows.lowerBound == 0, rows.lowerBound == 0 ? bias?.pointer : nil)
          S.multiply(RoundedProduct(gemm: piece, a: x, b: y, bias: added, c: c.pointer, adds: accumulate || !isFirst))
        case .fp32(let c):
          let z = c.pointer + rows.lowerBound * product.n
          S.multiply(RoundedProduct(gemm: piece, a: x, b: b.pointer, bias: bias?.pointer, c: z, adds: accumulate))
        case .bf16(let c):
          precondition(!accumulate && !product.transposeA, "rounded sums cannot be added to")
          let z = c.pointer + rows.lowerBound * product.n
          S.multiply(RoundedProduct(gemm: piece, a: x, b: b.pointer, bias: bias?.pointer, c: z, rounds: true))
        }
      }
    }
  default: preconditionFailure("a product of fp32 and bf16 matrices: \(a.shape), \(b.shape) into \(c.shape)")
  }
}

/// Ranges that together are 0 ..< rows: as many of 2,048 rows as fit, then one for each binary digit of the rest; up to
/// 512 rows, the four leading digits share a range. Packed captions have another number of rows at every step, and
/// oneDNN generates code for each size, up to 0.5 MiB. In such pieces it sees few sizes, and is as fast.
struct ProductPieces: Sequence, IteratorProtocol {
  private let rows: Int
  private let isWhole: Bool
  private var done = 0

  /// Makes one piece if `whole`, for rows whose number hardly ever changes, such as those of images.
  init(_ rows: Int, whole: Bool = false) { (self.rows, isWhole) = (rows, whole) }

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
    for i in 0..<c.rows { for j in 0..<c.columns { c.pointer[i * c.columns + j] = bfloat16(bias?[j] ?? 0) } }
  }
}

/// Counts a product and, while a profile is being recorded, times it.
@inline(__always) func measureProduct(_ body: () -> Void) {
  MatrixProducts.begun.add(1, ordering: .relaxed)
  Profile.measure(\.matmul, body)
}

/// The number of matrix products that this process has begun, a sign of life during long steps.
public enum MatrixProducts {
  static let begun = Atomic<Int>(0)
  /// The number so far, of all threads.
  public static var count: Int { begun.load(ordering: .relaxed) }
}

func setMatrixProductThreads(_ count: Int) { openblas_set_num_threads(Int32(count)) }

/// Facts that OpenBLAS reports: the kernel that it chose for this processor, its build, and its threads.
public enum BLAS {
  public static var kernel: String { String(cString: openblas_get_corename()) }
  public static var configuration: String { String(cString: openblas_get_config()) }
  public static var threads: Int { Int(openblas_get_num_threads()) }
}

extension Arithmetic.Library {
  public static var openBLAS: Arithmetic.Library {
    // The build describes itself as `OpenBLAS 0.3.21 DYNAMIC_ARCH …`; some builds leave the release out.
    let release = BLAS.configuration.split(separator: " ").first { $0.first?.isNumber ?? false }
    return Arithmetic.Library(
      name: "OpenBLAS", version: release.map(String.init) ?? "unknown", instructions: BLAS.kernel)
  }
}
