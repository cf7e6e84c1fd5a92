internal import COpenBLAS
internal import Synchronization

/// The door to BLAS: C = α op(A) op(B) + β C on row-major memory with leading dimensions.
public protocol MatrixProduct {
  static func multiply(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, alpha: Self,
    _ a: UnsafePointer<Self>, _ lda: Int, _ b: UnsafePointer<Self>, _ ldb: Int,
    beta: Self, _ c: UnsafeMutablePointer<Self>, _ ldc: Int)
}

extension Float: MatrixProduct {
  public static func multiply(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, alpha: Float,
    _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafePointer<Float>, _ ldb: Int,
    beta: Float, _ c: UnsafeMutablePointer<Float>, _ ldc: Int
  ) {
    Profile.note(transposeA, transposeB, m, n, k)
    cblas_sgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
      blasint(m), blasint(n), blasint(k), alpha, a, blasint(lda), b, blasint(ldb), beta, c, blasint(ldc))
  }
}

extension Double: MatrixProduct {
  public static func multiply(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, alpha: Double,
    _ a: UnsafePointer<Double>, _ lda: Int, _ b: UnsafePointer<Double>, _ ldb: Int,
    beta: Double, _ c: UnsafeMutablePointer<Double>, _ ldc: Int
  ) {
    Profile.note(transposeA, transposeB, m, n, k)
    cblas_dgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
      blasint(m), blasint(n), blasint(k), alpha, a, blasint(lda), b, blasint(ldb), beta, c, blasint(ldc))
  }
}

/// C = α op(A) op(B) + β C, where op transposes on request and A, B, C are matrices (all sizes but the last are rows).
///
/// With β = 0 what C held does not matter, NaN included.
public func matmul<S: Scalar>(
  _ a: Tensor<S>, _ b: Tensor<S>, into c: Tensor<S>, transposeA: Bool = false, transposeB: Bool = false,
  alpha: S = 1, beta: S = 0
) {
  let (m, n, k) = productSizes(a.shape, b.shape, c.shape, transposeA: transposeA, transposeB: transposeB)
  guard m > 0, n > 0 else { return }
  guard k > 0 else {
    if beta == 0 { fill(c, 0) } else if beta != 1 { scale(c, by: beta) }
    return
  }
  measureProduct {
    S.multiply(
      transposeA: transposeA, transposeB: transposeB, m, n, k, alpha: alpha, a.pointer, a.columns, b.pointer,
      b.columns, beta: beta, c.pointer, n)
  }
}

/// The sizes of op(A) [m, k] and op(B) [k, n], which must give C [m, n].
func productSizes(
  _ a: Shape, _ b: Shape, _ c: Shape, transposeA: Bool, transposeB: Bool
) -> (m: Int, n: Int, k: Int) {
  let (m, k) = transposeA ? (a.columns, a.rows) : (a.rows, a.columns)
  let (inner, n) = transposeB ? (b.columns, b.rows) : (b.rows, b.columns)
  precondition(
    inner == k && c.rows == m && c.columns == n,
    "product of \(a)\(transposeA ? "ᵀ" : "") and \(b)\(transposeB ? "ᵀ" : "") into \(c)")
  return (m, n, k)
}

/// Counts a product and, where somebody wants to know, times it.
@inline(__always)
func measureProduct(_ body: () -> Void) {
  MatrixProducts.begun.add(1, ordering: .relaxed)
  Profile.measure(\.matmul, body)
}

/// How many matrix products this process has begun: a sign of life in the longest of steps.
public enum MatrixProducts {
  static let begun = Atomic<Int>(0)

  public static var count: Int { begun.load(ordering: .relaxed) }
}

func setMatrixProductThreads(_ count: Int) {
  openblas_set_num_threads(Int32(count))
}

/// What OpenBLAS says of itself: the kernel it picked for this processor, its build, and its threads.
public enum BLAS {
  public static var kernel: String { String(cString: openblas_get_corename()) }
  public static var configuration: String { String(cString: openblas_get_config()) }
  public static var threads: Int { Int(openblas_get_num_threads()) }
}
