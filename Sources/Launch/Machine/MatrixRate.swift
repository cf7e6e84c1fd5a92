import Tensor

/// How fast matrix products are here.
enum MatrixRate {
  /// Billions of floating-point operations a second of C = A·B with 768 × 768 matrices, of Floats or of Floats rounded
  /// before, on `threads` threads, measured for at least `seconds`. The number of compute threads is put back.
  static func measure(threads: Int, _ precision: Precision = .fp32, seconds: Double = 0.3) -> Double {
    let n = 768
    let before = Threads.count
    Threads.count = threads
    defer { Threads.count = before }
    let values = Tensor<Float>(Shape(n, n))
    fill(values, 0.5)
    let (left, right) = (RoundedBuffer(), RoundedBuffer())
    let a = left.operand(values, precision)
    let b = right.operand(values, precision)
    let c = Tensor<Float>(Shape(n, n))
    // The first product pays for threads and buffers.
    matmul(a, b, into: c)
    let clock = ContinuousClock()
    let start = clock.now
    var products = 0
    var elapsed = Duration.zero
    repeat {
      matmul(a, b, into: c)
      products += 1
      elapsed = clock.now - start
    } while elapsed < .seconds(seconds)
    return 2 * Double(n * n * n) * Double(products) / (elapsed / .seconds(1)) / 1e9
  }
}

/// Operations a second of one rank's matrix products.
struct ProductRates {
  var fp32: Double
  /// Of rounded operands; as exact ones where nothing is known of them, or where the processor has no such products.
  var bf16: Double

  subscript(precision: Precision) -> Double { precision == .bf16 ? bf16 : fp32 }

  /// Those of both kinds that are asked for, here and now.
  static func measure(threads: Int, _ precisions: [Precision], seconds: Double = 0.3) -> ProductRates {
    let exact = 1e9 * MatrixRate.measure(threads: threads, seconds: seconds)
    guard precisions.contains(.bf16), RoundedProducts.instructions != nil else {
      return ProductRates(fp32: exact, bf16: exact)
    }
    return ProductRates(fp32: exact, bf16: 1e9 * MatrixRate.measure(threads: threads, .bf16, seconds: seconds))
  }
}
