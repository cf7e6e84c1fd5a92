public import Tensor

/// y = x Wᵀ + b, with W [outputs, inputs] and b [outputs].
public struct Linear<S: Scalar> {
  public let weight: Parameter<S>
  public let bias: Parameter<S>

  public init(weight: Parameter<S>, bias: Parameter<S>) {
    precondition(weight.shape.rank == 2 && bias.shape.count == weight.shape[0])
    self.weight = weight
    self.bias = bias
  }

  /// x [n, inputs] → y [n, outputs].
  public func forward(_ x: Tensor<S>, into y: Tensor<S>) {
    broadcast(bias.value, into: y)
    matmul(x, weight.value, into: y, transposeB: true, beta: 1)
  }

  /// y = residual + x Wᵀ + b; y may be the residual.
  public func forward(_ x: Tensor<S>, adding residual: Tensor<S>, into y: Tensor<S>) {
    add(residual, bias: bias.value, into: y)
    matmul(x, weight.value, into: y, transposeB: true, beta: 1)
  }

  /// Adds to the gradients of weight and bias; writes dx.
  public func backward(_ dy: Tensor<S>, x: Tensor<S>, dx: Tensor<S>) {
    matmul(dy, weight.value, into: dx)
    matmul(dy, x, into: weight.gradient, transposeA: true, beta: 1)
    addColumnSums(of: dy, to: bias.gradient)
  }
}
