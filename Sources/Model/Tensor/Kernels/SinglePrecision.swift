internal import CMachine
internal import COneDNN
internal import COpenBLAS

/// The library that multiplies matrices in single precision. The processor's vendor and the product's shape decide it
/// and never a clock: ranks and resumed runs on the same processor round alike.
public enum SinglePrecisionProducts: String, Codable, Sendable {
  case oneDNN
  case openBLAS = "OpenBLAS"

  /// On processors of AMD oneDNN's code is the faster one: with oneDNN 2.6 and OpenBLAS 0.3.21 by 1.1 times at the
  /// shapes of a ViT's layers, by 1.15 to 1.35 at those of its attention (Zen 3), and by 1.08 (Zen 4). On Intel's
  /// OpenBLAS reaches the rate of the processor's own multiply-adds.
  public static let preferred: SinglePrecisionProducts = {
    // "Auth", the beginning of AuthenticAMD.
    kinship_identify_processor().vendor.0 == 0x6874_7541 && OneDNN.has(dnnl_cpu_isa_avx2) ? .oneDNN : .openBLAS
  }()

  /// Products of fewer multiply-adds go to OpenBLAS: a call of oneDNN's takes 0.2 µs at least.
  private static let leastMultiplyAdds = 1 << 14

  /// Returns the library for a product if this one is preferred.
  func serving(_ product: GEMM) -> SinglePrecisionProducts {
    product.m * product.n * product.k < Self.leastMultiplyAdds ? .openBLAS : self
  }

  /// C = α op(A) op(B) + β C.
  func multiply(
    _ product: GEMM, alpha: Float, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, beta: Float,
    _ c: UnsafeMutablePointer<Float>
  ) {
    switch self {
    case .oneDNN:
      OneDNN.setThreads(Threads.ofProducts)
      check(
        dnnl_sgemm(
          Self.letter(product.transposeA), Self.letter(product.transposeB), dnnl_dim_t(product.m),
          dnnl_dim_t(product.n), dnnl_dim_t(product.k), alpha, a, dnnl_dim_t(product.lda), b, dnnl_dim_t(product.ldb),
          beta, c, dnnl_dim_t(product.ldc)), "dnnl_sgemm")
    case .openBLAS:
      cblas_sgemm(
        CblasRowMajor, product.transposeA ? CblasTrans : CblasNoTrans, product.transposeB ? CblasTrans : CblasNoTrans,
        blasint(product.m), blasint(product.n), blasint(product.k), alpha, a, blasint(product.lda), b,
        blasint(product.ldb), beta, c, blasint(product.ldc))
    }
  }

  private static func letter(_ isTransposed: Bool) -> CChar {
    CChar(bitPattern: isTransposed ? UInt8(ascii: "T") : UInt8(ascii: "N"))
  }
}
