public import Tensor

/// Layer norm over the last axis, ε = 1e-5, weight and bias of that width; starts as the identity's scale and shift.
public struct LayerNorm<S: Scalar> {
  public let weight: Parameter<S>
  public let bias: Parameter<S>

  /// What backward needs beside the input: mean and 1/√(σ² + ε) of each row.
  public final class Saved {
    let statistics = Buffer<S>()
    public init() {}

    func rows(_ n: Int) -> (mean: Tensor<S>, reciprocal: Tensor<S>) {
      let both = statistics.tensor(Shape(2, n))
      return (both.rows(0..<1), both.rows(1..<2))
    }
  }

  public init(_ store: ParameterStore<S>, name: String, width: Int) {
    weight = store.declare("\(name).weight", Shape(width), .ones)
    bias = store.declare("\(name).bias", Shape(width), .zeros)
  }

  public func forward(_ x: Tensor<S>, into y: Tensor<S>, saved: Saved) {
    let (mean, reciprocal) = saved.rows(x.rows)
    layerNorm(x, weight: weight.value, bias: bias.value, into: y, mean: mean, reciprocal: reciprocal)
  }

  /// Adds to dx and to the gradients of weight and bias.
  public func backward(_ dy: Tensor<S>, x: Tensor<S>, saved: Saved, dx: Tensor<S>) {
    let (mean, reciprocal) = saved.rows(x.rows)
    layerNormBackward(
      dy, x: x, weight: weight.value, mean: mean, reciprocal: reciprocal, dx: dx, dweight: weight.gradient,
      dbias: bias.gradient)
  }
}
