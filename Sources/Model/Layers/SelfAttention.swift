public import Tensor

/// Multi-head attention within sequences (Vaswani et al.: Attention Is All You Need, 2017). `in_proj_weight` [3 h d, w]
/// holds the rows of q, k and v in this order; each of h heads has d consecutive ones of each. Unpruned, h d = w.
public struct SelfAttention<S: Scalar> {
  public let input: Linear<S>
  public let output: Linear<S>
  public let heads: Int
  public let causal: Bool
  private let inner: Int  // h d

  /// Backward needs, besides the input, q, k, v [n, 3hd], the heads' outputs [n, hd] and log-sum-exps [h, n].
  public final class Activations {
    fileprivate let (qkv, heads, logSumExp) = (MatrixOperandBuffer<S>(), MatrixOperandBuffer<S>(), Buffer<S>())
  }

  /// Declares the parameters, with initial values for the weights of the two projections; their biases start as zeros.
  public init(
    _ store: ParameterStore<S>, name: String, width: Int, heads: Int, headWidth: Int? = nil, causal: Bool,
    initial: (input: Initial, output: Initial)
  ) {
    inner = heads * (headWidth ?? width / heads)
    (self.heads, self.causal) = (heads, causal)
    input = Linear(store, prefix: "\(name).in_proj_", from: width, to: 3 * inner, (initial.input, .zeros))
    output = Linear(store, prefix: "\(name).out_proj.", from: inner, to: width, (initial.output, .zeros))
  }

  /// y = residual + attention(x); x, residual and y are [n, w].
  public func forward(
    _ x: MatrixOperand<S>, _ sequences: Sequences, adding residual: Tensor<S>, into y: Tensor<S>,
    activations: Activations, workspace: Workspace<S>
  ) {
    let (qkv, mixed) = operands(like: x, activations)
    input.forward(x, into: qkv)
    attention(
      qkv, AttentionPattern(sequences, heads: heads, causal: causal), into: mixed,
      logSumExp: activations.logSumExp.tensor(Shape(heads, x.rows)), tiles: workspace.tiles)
    output.forward(mixed, adding: residual, into: y)
  }

  /// Writes dx, the gradient through the attention and not the residual, and adds to the parameters' gradients.
  public func backward(
    _ dy: MatrixOperand<S>, x: MatrixOperand<S>, _ sequences: Sequences, activations: Activations, dx: Tensor<S>,
    workspace: Workspace<S>
  ) {
    let (qkv, mixed) = operands(like: x, activations)
    let dmixed = workspace.narrow.operand(mixed.shape, x.precision)
    output.backward(dy, x: mixed, dx: dmixed)
    let dqkv = workspace.wide.operand(qkv.shape, x.precision)
    attentionBackward(
      dmixed, o: mixed, qkv: qkv, AttentionPattern(sequences, heads: heads, causal: causal),
      logSumExp: activations.logSumExp.tensor(Shape(heads, x.rows)), into: dqkv, tiles: workspace.tiles)
    input.backward(dqkv, x: x, dx: .fp32(dx))
  }

  private func operands(like x: MatrixOperand<S>, _ kept: Activations) -> (MatrixOperand<S>, MatrixOperand<S>) {
    (kept.qkv.operand(Shape(x.rows, 3 * inner), x.precision), kept.heads.operand(Shape(x.rows, inner), x.precision))
  }
}
