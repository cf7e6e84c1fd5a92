import Foundation
import Tensor
import TestSupport
import Testing

@Suite struct AdamWKernelTests {
  @Test(arguments: [1, 7, 1009]) func inDouble(n: Int) { compare(Double.self, n) }
  @Test(arguments: [1, 7, 1009]) func inSinglePrecision(n: Int) { compare(Float.self, n) }

  private func compare<S: Scalar>(_: S.Type, _ n: Int) {
    let p = Tensor<S>.random(Shape(n), "p")
    let (m, v) = (Tensor<S>(Shape(n)), Tensor<S>(Shape(n)))
    var (x, first, second) = (p.doubles, [Double](repeating: 0, count: n), [Double](repeating: 0, count: n))
    let (rate, decay, beta1, beta2, epsilon, share) = (0.01, 0.3, 0.9, 0.98, 1e-6, 0.5)
    for step in 1...4 {
      let g = Tensor<S>.random(Shape(n), "g\(step)")
      let before = g.array
      adamW(
        p, gradient: g, first: m, second: v,
        AdamWStep(
          learningRate: rate, decay: decay, beta1: beta1, beta2: beta2, epsilon: epsilon, step: step,
          gradientScale: share))
      #expect(g.array == before, "the gradient is left as it is")
      for (index, gradient) in before.enumerated() {
        let slope = share * Double(gradient)
        first[index] = beta1 * first[index] + (1 - beta1) * slope
        second[index] = beta2 * second[index] + (1 - beta2) * slope * slope
        let (mean, square) = (
          first[index] / (1 - pow(beta1, Double(step))), second[index] / (1 - pow(beta2, Double(step)))
        )
        x[index] -= rate * decay * x[index]
        x[index] -= rate * mean / (square.squareRoot() + epsilon)
      }
    }
    // 1 − β of single precision is rounded, and the mean's terms may cancel to a tenth of themselves; the step itself
    // is a hundredth of the parameter.
    let bound = 4 * S.roundoff * (6 + 100 * rate * 8)
    let deviation = Deviation(p.array, from: x)
    #expect(deviation.absolute <= bound, "\(deviation); bound \(bound)")
    #expect(Deviation(m.array, from: first).absolute <= 16 * S.roundoff)
    #expect(Deviation(v.array, from: second).absolute <= 16 * S.roundoff)
  }

  @Test func whatIsNotANumberIsNotSwallowed() {
    let (p, m, v) = (Tensor<Float>(Shape(2), [1, 1]), Tensor<Float>(Shape(2)), Tensor<Float>(Shape(2)))
    adamW(
      p, gradient: Tensor(Shape(2), [.nan, 1]), first: m, second: v,
      AdamWStep(learningRate: 0.1, beta1: 0.9, beta2: 0.98, epsilon: 1e-6, step: 1))
    #expect(p[0].isNaN && m[0].isNaN && v[0].isNaN && p[1].isFinite)
  }

  /// A gradient of zero leaves nothing but the decay.
  @Test func aGradientOfZero() {
    let (p, m, v) = (Tensor<Double>(Shape(1), [2]), Tensor<Double>(Shape(1)), Tensor<Double>(Shape(1)))
    adamW(
      p, gradient: Tensor(Shape(1)), first: m, second: v,
      AdamWStep(learningRate: 0.5, decay: 0.25, beta1: 0.9, beta2: 0.98, epsilon: 1e-6, step: 1))
    #expect(p[0] == 2 * (1 - 0.125) && m[0] == 0 && v[0] == 0)
  }
}
