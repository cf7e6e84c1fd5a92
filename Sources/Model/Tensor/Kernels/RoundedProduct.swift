/// The door to products of numbers rounded to bfloat16: C = op(A) op(B) + bias on row-major memory with leading
/// dimensions, where the bias, if there is one, has an element for each column of C.
public protocol RoundedProduct {
  /// Into exact numbers, or added to them.
  static func multiplyRounded(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<UInt16>, _ lda: Int,
    _ b: UnsafePointer<UInt16>, _ ldb: Int, bias: UnsafePointer<Self>?, accumulate: Bool,
    _ c: UnsafeMutablePointer<Self>, _ ldc: Int)

  /// Into rounded numbers; the sums are rounded once, at the end.
  static func multiplyRounded(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<UInt16>, _ lda: Int,
    _ b: UnsafePointer<UInt16>, _ ldb: Int, bias: UnsafePointer<Self>?, _ c: UnsafeMutablePointer<UInt16>, _ ldc: Int)
}

extension Float: RoundedProduct {
  public static func multiplyRounded(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<UInt16>, _ lda: Int,
    _ b: UnsafePointer<UInt16>, _ ldb: Int, bias: UnsafePointer<Float>?, accumulate: Bool,
    _ c: UnsafeMutablePointer<Float>, _ ldc: Int
  ) {
    guard OneDNN.hasRoundedProducts else {
      return multiplyWidened(
        transposeA: transposeA, transposeB: transposeB, m, n, k, a, lda, b, ldb, bias: bias, accumulate: accumulate, c,
        ldc)
    }
    Profile.note(transposeA, transposeB, m, n, k, .bf16)
    let product = OneDNN.Product(
      transposeA: transposeA, transposeB: transposeB, m: m, n: n, k: k, hasBias: bias != nil,
      destination: accumulate ? .sum : .exact)
    OneDNN.multiply(product, a, lda, b, ldb, bias: bias, c, ldc)
  }

  public static func multiplyRounded(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<UInt16>, _ lda: Int,
    _ b: UnsafePointer<UInt16>, _ ldb: Int, bias: UnsafePointer<Float>?, _ c: UnsafeMutablePointer<UInt16>, _ ldc: Int
  ) {
    guard OneDNN.hasRoundedProducts else {
      return multiplyWidened(
        transposeA: transposeA, transposeB: transposeB, m, n, k, a, lda, b, ldb, bias: bias, c, ldc)
    }
    Profile.note(transposeA, transposeB, m, n, k, .bf16)
    let product = OneDNN.Product(
      transposeA: transposeA, transposeB: transposeB, m: m, n: n, k: k, hasBias: bias != nil,
      destination: .rounded)
    OneDNN.multiply(product, a, lda, b, ldb, bias: bias, c, ldc)
  }
}

/// Exact sums of the rounded numbers: what the other is held against.
extension Double: RoundedProduct {
  public static func multiplyRounded(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<UInt16>, _ lda: Int,
    _ b: UnsafePointer<UInt16>, _ ldb: Int, bias: UnsafePointer<Double>?, accumulate: Bool,
    _ c: UnsafeMutablePointer<Double>, _ ldc: Int
  ) {
    multiplyWidened(
      transposeA: transposeA, transposeB: transposeB, m, n, k, a, lda, b, ldb, bias: bias, accumulate: accumulate, c,
      ldc)
  }

  public static func multiplyRounded(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<UInt16>, _ lda: Int,
    _ b: UnsafePointer<UInt16>, _ ldb: Int, bias: UnsafePointer<Double>?, _ c: UnsafeMutablePointer<UInt16>, _ ldc: Int
  ) {
    multiplyWidened(
      transposeA: transposeA, transposeB: transposeB, m, n, k, a, lda, b, ldb, bias: bias, c, ldc)
  }
}

/// Products of the rounded numbers in full width, for scalars and processors without products of bfloat16. Such
/// products are no faster than exact ones; a run falls back to fp32 there, and tests hold both forms to the same
/// numbers.
extension Scalar {
  fileprivate static func multiplyWidened(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<UInt16>, _ lda: Int,
    _ b: UnsafePointer<UInt16>, _ ldb: Int, bias: UnsafePointer<Self>?, accumulate: Bool,
    _ c: UnsafeMutablePointer<Self>, _ ldc: Int
  ) {
    let x = widened(a, transposeA ? k : m, transposeA ? m : k, lda)
    let y = widened(b, transposeB ? n : k, transposeB ? k : n, ldb)
    multiply(
      transposeA: transposeA, transposeB: transposeB, m, n, k, alpha: 1, x, transposeA ? m : k, y, transposeB ? k : n,
      beta: accumulate ? 1 : 0, c, ldc)
    guard let bias else { return }
    for i in 0..<m {
      for j in 0..<n { c[i * ldc + j] += bias[j] }
    }
  }

  fileprivate static func multiplyWidened(
    transposeA: Bool, transposeB: Bool, _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<UInt16>, _ lda: Int,
    _ b: UnsafePointer<UInt16>, _ ldb: Int, bias: UnsafePointer<Self>?, _ c: UnsafeMutablePointer<UInt16>, _ ldc: Int
  ) {
    var exact = [Self](repeating: 0, count: m * n)
    multiplyWidened(
      transposeA: transposeA, transposeB: transposeB, m, n, k, a, lda, b, ldb, bias: bias, accumulate: false, &exact, n)
    for i in 0..<m {
      for j in 0..<n { c[i * ldc + j] = bfloat16(exact[i * n + j]) }
    }
  }

  private static func widened(_ x: UnsafePointer<UInt16>, _ rows: Int, _ columns: Int, _ stride: Int) -> [Self] {
    (0..<rows * columns).map { Self(Float(bitPattern: UInt32(x[$0 / columns * stride + $0 % columns]) << 16)) }
  }
}
