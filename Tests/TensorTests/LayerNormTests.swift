import Tensor
import TestSupport
import Testing

@Suite struct LayerNormTests {
  static let shapes = [Shape(1, 1), Shape(1, 7), Shape(5, 2), Shape(67, 13), Shape(3, 257)]

  @Test(arguments: shapes) func inDouble(shape: Shape) { compare(Double.self, shape, offset: 0) }
  @Test(arguments: shapes) func inSinglePrecision(shape: Shape) { compare(Float.self, shape, offset: 0) }
  /// Far from zero, a difference of sums of squares would have no correct digit.
  @Test(arguments: shapes) func farFromZero(shape: Shape) { compare(Float.self, shape, offset: 1000) }

  private func compare<S: Scalar>(_: S.Type, _ shape: Shape, offset: Double) {
    let (n, w) = (shape[0], shape[1])
    let x = Tensor<S>.random(shape, "x", bound: 3)
    for index in 0..<x.count { x[index] += S(offset) }
    let (weight, bias) = (Tensor<S>.random(Shape(w), "weight"), Tensor<S>.random(Shape(w), "bias"))
    let y = Tensor<S>(shape)
    let (mean, reciprocal) = (Tensor<S>(Shape(n)), Tensor<S>(Shape(n)))
    layerNorm(x, weight: weight, bias: bias, into: .fp32(y), statistics: (mean, reciprocal))

    let (p, g, b) = (x.doubles, weight.doubles, bias.doubles)
    for i in 0..<n {
      let row = p[i * w..<(i + 1) * w]
      let mu = row.reduce(0, +) / Double(w)
      let variance = row.reduce(0) { $0 + ($1 - mu) * ($1 - mu) } / Double(w)
      let scale = 1 / (variance + 1e-5).squareRoot()
      // The mean errs by the roundings of its sum, which the scale enlarges in y; the sum of squares, the root and the
      // last three operations err relative to what they give.
      let meanError = S.roundoff * Double(w + 2) * (abs(mu) + 3)
      let relative = S.roundoff * Double(w + 12)
      #expect(abs(Double(mean[i]) - mu) <= meanError, "mean of row \(i)")
      let scaleError = scale * (relative + 2 * meanError * meanError * scale * scale)
      #expect(abs(Double(reciprocal[i]) - scale) <= scaleError, "1/deviation of row \(i)")
      for j in 0..<w {
        let hat = (p[i * w + j] - mu) * scale
        let bound =
          abs(g[j]) * (meanError * scale + abs(hat) * (relative + scaleError / scale)) + S.roundoff * abs(b[j]) * 2
        #expect(abs(Double(y[i * w + j]) - (hat * g[j] + b[j])) <= bound, "[\(i), \(j)]")
      }
    }
  }

  @Test(arguments: [Shape(1, 3), Shape(5, 2), Shape(3, 7)]) func gradients(shape: Shape) {
    let (n, w) = (shape[0], shape[1])
    let x = Tensor<Double>.random(shape, "x", bound: 2)
    let (weight, bias) = (Tensor<Double>.random(Shape(w), "weight"), Tensor<Double>.random(Shape(w), "bias"))
    let (dx, dweight, dbias) = (Tensor<Double>(shape), Tensor<Double>(Shape(w)), Tensor<Double>(Shape(w)))
    let statistics: RowStatistics<Double> = (Tensor(Shape(n)), Tensor(Shape(n)))
    let report = GradientCheck([
      .init("x", x, gradient: dx), .init("weight", weight, gradient: dweight), .init("bias", bias, gradient: dbias),
    ]).run {
      let y = Tensor<Double>(shape)
      layerNorm(x, weight: weight, bias: bias, epsilon: 1e-2, into: .fp32(y), statistics: statistics)
      return y.array
    } backward: { weights in
      layerNormBackward(
        Tensor(shape, weights), x: x, weight: weight, statistics: statistics, dx: dx, dweight: dweight, dbias: dbias)
    }
    #expect(report.passed, "\(report)")
  }

  @Test func aRowOfEqualNumbersIsTheBias() {
    let (weight, bias) = (Tensor<Float>(Shape(3), [1, 2, 3]), Tensor<Float>(Shape(3), [4, 5, 6]))
    let (y, row) = (Tensor<Float>(Shape(1, 3)), Tensor<Float>(Shape(1)))
    layerNorm(
      Tensor(Shape(1, 3), [7, 7, 7]), weight: weight, bias: bias, into: .fp32(y), statistics: (row, Tensor(Shape(1))))
    #expect(y.array == [4, 5, 6])
  }

  @Test func notANumberIsNotSwallowed() {
    let ones = Tensor<Float>(Shape(3), [1, 1, 1])
    let y = Tensor<Float>(Shape(2, 3))
    let statistics: RowStatistics<Float> = (Tensor(Shape(2)), Tensor(Shape(2)))
    for bad in [Float.nan, .infinity] {
      layerNorm(
        Tensor(Shape(2, 3), [1, bad, 2, 1, 2, 3]), weight: ones, bias: ones, into: .fp32(y), statistics: statistics)
      #expect(y.rows(0..<1).array.contains { $0.isNaN } && y.rows(1..<2).array.allSatisfy { $0.isFinite })
    }
  }
}
