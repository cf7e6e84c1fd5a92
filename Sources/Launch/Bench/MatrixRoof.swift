import Dist
import Foundation
import Tensor

/// How fast this machine multiplies matrices of the very shapes that a step has, all ranks at once.
struct MatrixRoof {
  /// Each shape with how often a step computes it.
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
    for (tensor, seed) in [(a, 1), (b, 2)] {
      var random = KeyedRandom(seed: UInt64(seed), purpose: "bench")
      for index in 0..<tensor.count { tensor[index] = Float(random.uniform(-1, 1)) }
    }
  }

  /// Floating point operations of one step's products.
  var operations: Double { products.reduce(0) { $0 + $1.key.operations * Double($1.value) } }

  /// Operations a second of this rank over the step's own mix of shapes: each shape is run for about `seconds`.
  func rate(seconds: Double) -> Double {
    var total = 0.0
    for (product, count) in products.sorted(by: { $0.key.operations < $1.key.operations }) {
      total += time(product, seconds: seconds) * Double(count)
    }
    return operations / total
  }

  /// The seconds of one product: the mean over as many as fill the time, after one to warm up. Where threads compute
  /// products of their own, those of one of them over their number.
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
    let (left, right) = (RoundedBuffer(), RoundedBuffer())
    let operands = (left.operand(x, product.precision), right.operand(y, product.precision))
    func multiply() {
      // As one: the step's own products are noted as the pieces that they were cut into.
      matmul(
        operands.0, operands.1, into: .exact(z), transposeA: product.transposeA, transposeB: product.transposeB,
        inPieces: false)
    }
    multiply()
    var runs = 0
    let start = ContinuousClock.now
    var elapsed = 0.0
    repeat {
      for _ in 0..<max(1, Int(2e6 / product.operations)) {
        multiply()
        runs += 1
      }
      elapsed = (ContinuousClock.now - start) / .seconds(1)
    } while elapsed < seconds
    return elapsed / Double(runs)
  }
}
