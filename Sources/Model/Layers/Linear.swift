public import Tensor

/// y = x Wᵀ + b, with W [outputs, inputs] and b [outputs].
public struct Linear<S: Scalar> {
  public let weight: Parameter<S>
  public let bias: Parameter<S>

  /// Declares `prefix`weight and `prefix`bias, with their initial values. `isOperand` is as for `declare`: false if
  /// something else than this layer's products reads the weight, or if the layer always computes in fp32.
  init(
    _ store: ParameterStore<S>, prefix: String, from inputs: Int, to outputs: Int, _ initial: (Initial, Initial),
    isOperand: Bool = false
  ) {
    weight = store.declare("\(prefix)weight", Shape(outputs, inputs), initial.0, isOperand: isOperand)
    bias = store.declare("\(prefix)bias", Shape(outputs), initial.1)
  }

  /// x [n, inputs] → y [n, outputs], or some consecutive columns of y alone.
  public func forward(_ x: MatrixOperand<S>, columns: Range<Int>? = nil, into y: MatrixOperand<S>) {
    let columns = columns ?? 0..<bias.shape.count
    matmul(x, weight.operand(like: x).rows(columns), into: y, transposeB: true, bias: bias.value.slice(columns))
  }

  /// Does the same in full precision.
  public func forward(_ x: Tensor<S>, into y: Tensor<S>) { forward(.fp32(x), into: .fp32(y)) }

  /// y = residual + x Wᵀ + b, all [n, outputs]; y may be the residual.
  public func forward(_ x: MatrixOperand<S>, adding residual: Tensor<S>, into y: Tensor<S>) {
    if x.precision == .bf16, !y.isSameMemory(as: residual) {
      // oneDNN writes sums faster than it adds to a matrix.
      matmul(x, weight.operand(like: x), into: y, transposeB: true, bias: bias.value)
      add(residual, to: y)
    } else {
      add(residual, bias: bias.value, into: y)
      matmul(x, weight.operand(like: x), into: y, transposeB: true, accumulate: true)
    }
  }

  /// Adds to the gradients of weight and bias and writes dx [n, inputs], given dy [n, outputs] or some columns of it.
  public func backward(
    _ dy: MatrixOperand<S>, x: MatrixOperand<S>, columns: Range<Int>? = nil, dx: MatrixOperand<S>
  ) {
    let columns = columns ?? 0..<bias.shape.count
    matmul(dy, weight.kept(like: x).rows(columns), into: dx)
    matmul(dy, x, into: weight.gradient.rows(columns), transposeA: true, accumulate: true)
    addColumnSums(of: dy, to: bias.gradient.slice(columns))
  }

  /// Does the same in full precision.
  public func backward(_ dy: Tensor<S>, x: Tensor<S>, dx: Tensor<S>) { backward(.fp32(dy), x: .fp32(x), dx: .fp32(dx)) }
}
