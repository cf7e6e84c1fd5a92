import Dist
import Foundation
import Tensor

/// The rate at which this machine multiplies matrices of exactly the shapes that a step has.
struct MatrixRoof {
  /// The number of times that a step computes each shape.
  let products: [Profile.Product: Int]
  private let a: Tensor<Float>
  private let b: Tensor<Float>
  private let c: Tensor<Float>

  init(_ products: [Profile.Product: Int]) {
    self.products = products
    a = Tensor(Shape(products.keys.map { $0.m * $0.k }.max() ?? 0))
    b = Tensor(Shape(products.keys.map { $0.n * $0.k }.max() ?? 0))
    c = Tensor(Shape(products.keys.map { $0.m * $0.n }.max() ?? 0))
    // Denormal or zero operands would be a different load.
    a.fillUniform(-1..<1, seed: 1, purpose: "bench")
    b.fillUniform(-1..<1, seed: 2, purpose: "bench")
  }

  /// The floating-point operations of one step's products.
  var operations: Double { products.reduce(0) { $0 + $1.key.operations * Double($1.value) } }

  /// Returns the mean of the ranks' rates in operations per second, measured on all ranks at the same time. Every rank
  /// must call it.
  func meanRate(over communicator: Communicator) throws -> Double {
    try communicator.barrier()
    return try communicator.mean(rate(seconds: 0.05))
  }

  /// Returns this rank's operations per second over the step's own mix of shapes. Each shape runs for about `seconds`.
  private func rate(seconds: Double) -> Double {
    var total = 0.0
    for (product, count) in products.sorted(by: { $0.key.operations < $1.key.operations }) {
      total += time(product, seconds: seconds) * Double(count)
    }
    return operations / total
  }

  /// Returns the mean seconds of one product over as many as fill the time, after one that warms up. If threads compute
  /// products of their own, it is the time of one thread divided by their number.
  private func time(_ product: Profile.Product, seconds: Double) -> Double {
    let threads = Threads.count
    guard threads == 1 || !product.besideOthers else {
      Threads.count = 1
      defer { Threads.count = threads }
      return time(product, seconds: seconds) / Double(threads)
    }
    let (m, n, k) = (product.m, product.n, product.k)
    let x = a.slice(0..<m * k).reshaped(product.transposeA ? Shape(k, m) : Shape(m, k))
    let y = b.slice(0..<n * k).reshaped(product.transposeB ? Shape(n, k) : Shape(k, n))
    let z = c.slice(0..<m * n).reshaped(Shape(m, n))
    let (left, right) = (BFloat16Buffer(), BFloat16Buffer())
    let operands = (left.operand(x, product.precision), right.operand(y, product.precision))
    func multiply() {
      // Not in pieces: the profile already lists the pieces that the step's products were cut into.
      matmul(
        whole: operands.0, operands.1, into: .fp32(z), transposeA: product.transposeA, transposeB: product.transposeB)
    }
    multiply()
    // Reading the clock must not weigh on small products.
    let repeats = max(1, Int(2e6 / product.operations))
    return meanSeconds(during: seconds) { for _ in 0..<repeats { multiply() } } / Double(repeats)
  }
}

extension Communicator {
  /// Returns the mean of one number over the ranks. Every rank must call it.
  func mean(_ value: Double) throws -> Double { try allReduce(value) / Double(size) }
}
