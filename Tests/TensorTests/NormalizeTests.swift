import Tensor
import TestSupport
import Testing

@Suite struct NormalizeTests {
  static let shapes = [Shape(1, 1), Shape(3, 7), Shape(5, 129)]

  @Test(arguments: shapes) func inDouble(shape: Shape) { compare(Double.self, shape) }
  @Test(arguments: shapes) func inSinglePrecision(shape: Shape) { compare(Float.self, shape) }

  private func compare<S: Scalar>(_: S.Type, _ shape: Shape) {
    let (n, d) = (shape[0], shape[1])
    let x = Tensor<S>.random(shape, "x", bound: 5)
    let (y, reciprocal) = (Tensor<S>(shape), Tensor<S>(Shape(n)))
    normalizeRows(x, into: y, reciprocal: reciprocal)
    let p = x.doubles
    for i in 0..<n {
      let norm = p[i * d..<(i + 1) * d].reduce(0) { $0 + $1 * $1 }.squareRoot()
      // The norm is held in Double; its reciprocal and the product are rounded once each.
      let bound = 2 * S.roundoff + Double(d + 4) * Double.roundoff
      #expect(abs(Double(reciprocal[i]) * norm - 1) <= bound, "row \(i)")
      for j in 0..<d { #expect(abs(Double(y[i * d + j]) - p[i * d + j] / norm) <= bound, "[\(i), \(j)]") }
    }
  }

  @Test(arguments: [Shape(1, 2), Shape(3, 7)]) func gradients(shape: Shape) {
    let (x, dx) = (Tensor<Double>.random(shape, "x"), Tensor<Double>(shape))
    let (y, reciprocal) = (Tensor<Double>(shape), Tensor<Double>(Shape(shape[0])))
    let report = GradientCheck([.init("x", x, gradient: dx, accumulates: false)]).run {
      normalizeRows(x, into: y, reciprocal: reciprocal)
      return y.array
    } backward: { weights in
      copy(Tensor(shape, weights), into: dx)
      normalizeRowsBackward(dx, y: y, reciprocal: reciprocal)
    }
    #expect(report.passed, "\(report)")
  }

  @Test func aRowOfZerosStaysZero() {
    let x = Tensor<Float>(Shape(2, 2), [0, 0, 3, 4])
    let (y, reciprocal, dx) = (Tensor<Float>(x.shape), Tensor<Float>(Shape(2)), Tensor<Float>(x.shape))
    normalizeRows(x, into: y, reciprocal: reciprocal)
    #expect(y[0] == 0 && y[1] == 0 && abs(y[2] - 0.6) < 1e-7 && abs(y[3] - 0.8) < 1e-7 && reciprocal[0] == 0)
    fill(dx, 1)
    normalizeRowsBackward(dx, y: y, reciprocal: reciprocal)
    #expect(dx[0] == 0 && dx[1] == 0 && dx.array.allSatisfy { $0.isFinite })
  }

  @Test func sizesAtTheEdgesOfSinglePrecision() {
    for size in [1e-30, 1e30] as [Float] {
      let (y, reciprocal) = (Tensor<Float>(Shape(1, 2)), Tensor<Float>(Shape(1)))
      normalizeRows(Tensor(Shape(1, 2), [3 * size, 4 * size]), into: y, reciprocal: reciprocal)
      #expect(abs(y[0] - 0.6) < 1e-6 && abs(y[1] - 0.8) < 1e-6)
    }
  }

  @Test func notANumberIsNotSwallowed() {
    for bad in [Float.nan, .infinity] {
      let (y, reciprocal) = (Tensor<Float>(Shape(1, 2)), Tensor<Float>(Shape(1)))
      normalizeRows(Tensor(Shape(1, 2), [bad, 1]), into: y, reciprocal: reciprocal)
      #expect(y[0].isNaN)
    }
  }
}
