import Tensor

/// How fast matrix products are here.
enum MatrixRate {
  /// Billions of floating-point operations a second of C = A·B with 768 × 768 matrices of Float, on `threads` threads,
  /// measured for at least `seconds`. The number of compute threads is put back.
  static func measure(threads: Int, seconds: Double = 0.3) -> Double {
    let n = 768
    let before = Threads.count
    Threads.count = threads
    defer { Threads.count = before }
    var random = KeyedRandom(seed: 0, purpose: "matrix rate")
    let values = (0..<n * n).map { _ in Float(random.uniform(-1, 1)) }
    let a = Tensor(Shape(n, n), values)
    let b = Tensor(Shape(n, n), values)
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
