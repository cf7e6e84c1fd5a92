import Tensor
import TestSupport
import Testing

/// Element-wise kernels and sums, against plain loops.
@Suite struct ElementwiseTests {
  static let shapes = [Shape(1, 1), Shape(7, 1), Shape(1, 5), Shape(13, 11), Shape(67, 131)]

  @Test(arguments: shapes) func inDouble(shape: Shape) { compare(Double.self, shape) }
  @Test(arguments: shapes) func inSinglePrecision(shape: Shape) { compare(Float.self, shape) }

  private func compare<S: Scalar>(_: S.Type, _ shape: Shape) {
    let (n, w) = (shape[0], shape[1])
    let x = Tensor<S>.random(shape, "x")
    let bias = Tensor<S>.random(Shape(w), "bias")
    let (p, b) = (x.doubles, bias.doubles)
    let y = Tensor<S>.random(shape, "y")
    let q = y.doubles
    add(x, times: S(0.5), to: y)
    expect(y, zip(p, q).map { 0.5 * $0 + $1 }, "y + x/2")
    scale(y, by: S(-0.5))
    expect(y, zip(p, q).map { -0.25 * $0 - 0.5 * $1 }, "scaled")
    add(x, bias: bias, into: y)
    expect(y, p.indices.map { p[$0] + b[$0 % w] }, "x + bias")
    let own = Tensor(shape, x.array)
    add(own, bias: bias, into: own)
    #expect(own.array == y.array, "in place")
    broadcast(bias, into: y)
    expect(y, p.indices.map { b[$0 % w] }, "bias")
    copy(x, into: y)
    #expect(y.array == x.array)
    fill(y, 3)
    #expect(y.array.allSatisfy { $0 == 3 })

    let sums = Tensor<S>.random(Shape(w), "sums")
    var (expected, sizes) = (sums.doubles, sums.doubles.map { abs($0) })
    addColumnSums(of: .fp32(x), to: sums)
    for i in 0..<n {
      for j in 0..<w {
        expected[j] += p[i * w + j]
        sizes[j] += abs(p[i * w + j])
      }
    }
    for j in 0..<w {
      #expect(abs(Double(sums[j]) - expected[j]) <= Double(n) * S.roundoff * sizes[j], "sum of column \(j)")
    }

    // Held in Double, whatever the scalar.
    let squares = p.reduce(0) { $0 + $1 * $1 }
    #expect(abs(sumOfSquares(x) - squares) <= Double(n * w) * Double.ulpOfOne * squares)
    let other = Tensor<S>.random(shape, "other")
    let products = zip(p, other.doubles).map { $0 * $1 }
    let size = products.reduce(0) { $0 + abs($1) }
    #expect(abs(dot(x, other) - products.reduce(0, +)) <= Double(n * w) * Double.ulpOfOne * size)
  }

  /// One rounding of a number below 2, or two of numbers below 1.
  private func expect<S: Scalar>(_ actual: Tensor<S>, _ expected: [Double], _ name: Comment) {
    #expect(Deviation(actual.array, from: expected).absolute <= 2 * S.roundoff, name)
  }

  @Test func sumsOfSinglePrecisionAreHeldInDouble() {
    let x = Tensor<Float>(Shape(3), [0x1p60, 1, 0x1p-40])
    #expect(sumOfSquares(x) == 0x1p120)
    #expect(dot(x, Tensor(Shape(3), [0x1p-60, 1, 0x1p30])) == 2 + 0x1p-10)
    #expect(sumOfSquares(Tensor<Float>(Shape(1), [3e38])).isFinite)
    #expect(sumOfSquares(Tensor<Float>(Shape(2), [1, .nan])).isNaN)
  }

  @Test func gradientOfABias() {
    let (x, bias) = (Tensor<Double>.random(Shape(5, 3), "x"), Tensor<Double>.random(Shape(3), "bias"))
    let (dx, dbias) = (Tensor<Double>(x.shape), Tensor<Double>(bias.shape))
    let report = GradientCheck([.init("x", x, gradient: dx), .init("bias", bias, gradient: dbias)]).run {
      let y = Tensor<Double>(x.shape)
      add(x, bias: bias, into: y)
      return y.array
    } backward: { weights in
      let dy = Tensor(x.shape, weights)
      add(dy, to: dx)
      addColumnSums(of: .fp32(dy), to: dbias)
    }
    #expect(report.passed, "\(report)")
  }
}
