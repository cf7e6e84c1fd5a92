import Tensor

/// Measures how fast this machine multiplies matrices.
enum MatrixRate {
  /// Returns the rate of C = A·B with 768 × 768 matrices on some threads in GFLOP/s, measured for at least `seconds`.
  /// In bf16, the operands are rounded beforehand.
  static func measure(threads: Int, _ precision: ComputePrecision = .fp32, seconds: Double = 0.3) -> Double {
    let n = 768
    let before = Threads.count
    Threads.count = threads
    defer { Threads.count = before }
    let values = Tensor<Float>(Shape(n, n))
    fill(values, 0.5)
    let (left, right) = (BFloat16Buffer(), BFloat16Buffer())
    let (a, b) = (left.operand(values, precision), right.operand(values, precision))
    let c = Tensor<Float>(Shape(n, n))
    // The first product pays for threads and buffers.
    matmul(a, b, into: c)
    return 2 * Double(n * n * n) / meanSeconds(during: seconds) { matmul(a, b, into: c) } / 1e9
  }
}

/// The rates of one rank's matrix products, in operations per second.
struct ProductRates {
  var fp32: Double
  /// The rate with operands rounded to bfloat16; that of fp32 if it is not known or the processor has no such products.
  var bf16: Double

  subscript(precision: ComputePrecision) -> Double { precision == .bf16 ? bf16 : fp32 }

  static func measure(threads: Int, _ precisions: [ComputePrecision], seconds: Double = 0.3) -> ProductRates {
    let exact = 1e9 * MatrixRate.measure(threads: threads, seconds: seconds)
    let isRounded = precisions.contains(.bf16) && RoundedProducts.instructions != nil
    return ProductRates(
      fp32: exact, bf16: isRounded ? 1e9 * MatrixRate.measure(threads: threads, .bf16, seconds: seconds) : exact)
  }
}

/// Runs `body` until `seconds` have passed, and at least `least` times, and returns the mean seconds of a run.
func meanSeconds(during seconds: Double, runs least: Int = 1, _ body: () throws -> Void) rethrows -> Double {
  let start = ContinuousClock.now
  var runs = 0
  var elapsed = 0.0
  repeat {
    try body()
    runs += 1
    elapsed = (ContinuousClock.now - start) / .seconds(1)
  } while elapsed < seconds || runs < least
  return elapsed / Double(runs)
}
