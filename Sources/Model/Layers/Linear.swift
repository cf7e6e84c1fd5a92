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
  public func forward(_ x: Operand<S>, into y: Tensor<S>) {
    broadcast(bias.value, into: y)
    matmul(x, weight.operand(like: x), into: y, transposeB: true, accumulate: true)
  }

  public func forward(_ x: Tensor<S>, into y: Tensor<S>) { forward(.exact(x), into: y) }

  /// y = residual + x Wᵀ + b; y may be the residual.
  public func forward(_ x: Operand<S>, adding residual: Tensor<S>, into y: Tensor<S>) {
    add(residual, bias: bias.value, into: y)
    matmul(x, weight.operand(like: x), into: y, transposeB: true, accumulate: true)
  }

  /// Adds to the gradients of weight and bias; writes dx. dy is rounded into the given buffer where x is.
  public func backward(_ dy: Tensor<S>, x: Operand<S>, dx: Tensor<S>, rounding: RoundedBuffer) {
    let slope = rounding.operand(dy, x.precision)
    matmul(slope, weight.kept(like: x), into: dx)
    matmul(slope, x, into: weight.gradient, transposeA: true, accumulate: true)
    addColumnSums(of: dy, to: bias.gradient)
  }

  public func backward(_ dy: Tensor<S>, x: Tensor<S>, dx: Tensor<S>) {
    matmul(dy, weight.value, into: dx)
    matmul(dy, x, into: weight.gradient, transposeA: true, beta: 1)
    addColumnSums(of: dy, to: bias.gradient)
  }
}
