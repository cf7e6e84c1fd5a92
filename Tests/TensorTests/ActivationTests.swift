import Foundation
import Tensor
import TestSupport
import Testing

@Suite struct ActivationTests {
  private static let both = [Activation.gelu, .quickGELU]

  private static func plain(_ activation: Activation, _ x: Double) -> (value: Double, derivative: Double) {
    switch activation {
    case .gelu:
      let cumulative = 0.5 * erfc(-x / 2.0.squareRoot())
      return (x * cumulative, cumulative + x * exp(-x * x / 2) / (2 * Double.pi).squareRoot())
    case .quickGELU:
      let sigmoid = 1 / (1 + exp(-1.702 * x))
      return (x * sigmoid, sigmoid * (1 + 1.702 * x * (1 - sigmoid)))
    }
  }

  @Test(arguments: both) func inDouble(activation: Activation) { compare(Double.self, activation) }
  @Test(arguments: both) func inSinglePrecision(activation: Activation) { compare(Float.self, activation) }

  /// Every number within ±20 that is a multiple of 1/100, in rows of 23, with a bias that is a multiple of 1/8.
  private func compare<S: Scalar>(_: S.Type, _ activation: Activation) {
    let (n, w) = (174, 23)
    let h = Tensor<S>(Shape(n, w), (0..<n * w).map { S(Double($0 - n * w / 2) / 100) })
    let bias = Tensor<S>(Shape(w), (0..<w).map { S(Double($0 % 5 - 2) / 8) })
    let sums = (0..<n * w).map { Double(h[$0] + bias[$0 % w]) }
    let y = Tensor<S>(Shape(n, w))
    let alone = Tensor<S>(y.shape)
    biasActivation(.fp32(h), bias: bias, activation, into: .fp32(alone), differentiating: false)
    biasActivation(.fp32(h), bias: bias, activation, into: .fp32(y))
    #expect(alone.array == y.array)
    for (index, x) in sums.enumerated() {
      let (value, derivative) = Self.plain(activation, x)
      // x is rounded again where it is squared or multiplied by 1.702: the exponential moves by |exponent| · u, and
      // all results with it; beside that there are a dozen roundings of numbers of the size of 1 + |x|.
      let exponent = activation == .gelu ? x * x / 2 : 1.702 * abs(x)
      let tail = activation == .gelu ? exp(-x * x / 2) : 1 / (1 + exp(1.702 * abs(x)))
      let bound = S.roundoff * (12 + 2 * exponent * tail) * (1 + abs(x)) + 1e-35
      #expect(abs(Double(y[index]) - value) <= bound, "value at \(x)")
      #expect(abs(Double(h[index]) - derivative) <= bound, "derivative at \(x)")
    }
  }

  @Test(arguments: both, [Shape(1, 1), Shape(5, 3), Shape(2, 7)]) func gradients(activation: Activation, shape: Shape) {
    let (h, bias) = (Tensor<Double>.random(shape, "h", bound: 3), Tensor<Double>.random(Shape(shape[1]), "bias"))
    let (dh, dbias) = (Tensor<Double>(shape), Tensor<Double>(bias.shape))
    let derivative = Tensor<Double>(shape)
    let report = GradientCheck([
      .init("h", h, gradient: dh, accumulates: false), .init("bias", bias, gradient: dbias),
    ]).run {
      let y = Tensor<Double>(shape)
      copy(h, into: derivative)
      biasActivation(.fp32(derivative), bias: bias, activation, into: .fp32(y))
      return y.array
    } backward: { weights in
      copy(h, into: derivative)
      biasActivation(.fp32(derivative), bias: bias, activation, into: .fp32(Tensor(shape)))
      copy(Tensor(shape, weights), into: dh)
      biasActivationBackward(.fp32(dh), derivative: .fp32(derivative), dbias: dbias)
    }
    #expect(report.passed, "\(report)")
  }

  @Test(arguments: both) func whatIsNotFiniteDoesNotBecomeFinite(activation: Activation) {
    notFinite(Float.self, activation)
    notFinite(Double.self, activation)
  }

  private func notFinite<S: Scalar>(_: S.Type, _ activation: Activation) {
    let h = Tensor<S>(Shape(1, 3), [S.nan, S.infinity, 1])
    let y = Tensor<S>(Shape(1, 3))
    biasActivation(.fp32(h), bias: Tensor(Shape(3)), activation, into: .fp32(y))
    #expect(y[0].isNaN && h[0].isNaN)
    #expect(!y[1].isFinite)
    #expect(y[2].isFinite && h[2].isFinite)
  }
}
