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
  public func forward(_ x: Operand<S>, into y: Operand<S>) {
    matmul(x, weight.operand(like: x), into: y, transposeB: true, bias: bias.value)
  }

  public func forward(_ x: Tensor<S>, into y: Tensor<S>) { forward(.exact(x), into: .exact(y)) }

  /// y = residual + x Wᵀ + b; y may be the residual.
  public func forward(_ x: Operand<S>, adding residual: Tensor<S>, into y: Tensor<S>) {
    if x.precision == .bf16, !y.isSameMemory(as: residual) {
      // oneDNN is quicker to write sums than to add to what is there.
      matmul(x, weight.operand(like: x), into: y, transposeB: true, bias: bias.value)
      add(residual, to: y)
    } else {
      add(residual, bias: bias.value, into: y)
      matmul(x, weight.operand(like: x), into: y, transposeB: true, accumulate: true)
    }
  }

  /// Adds to the gradients of weight and bias; writes dx.
  public func backward(_ dy: Operand<S>, x: Operand<S>, dx: Operand<S>) {
    matmul(dy, weight.kept(like: x), into: dx)
    matmul(dy, x, into: weight.gradient, transposeA: true, accumulate: true)
    addColumnSums(of: dy, to: bias.gradient)
  }

  public func backward(_ dy: Tensor<S>, x: Tensor<S>, dx: Tensor<S>) {
    backward(.exact(dy), x: .exact(x), dx: .exact(dx))
  }
}
