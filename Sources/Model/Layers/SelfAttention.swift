public import Tensor

/// Multi-head attention within sequences, with one fused projection of q, k and v (Vaswani et al.: Attention Is All You
/// Need, 2017).
///
/// `in_proj_weight` [3 h d, w] holds the rows of q, k and v in this order; each of h heads has d consecutive columns of
/// each. In a transformer that is not pruned h d = w.
public struct SelfAttention<S: Scalar> {
  public let input: Linear<S>
  public let output: Linear<S>
  public let heads: Int
  public let causal: Bool
  /// h d.
  private let inner: Int

  /// Backward needs, besides the input, q, k, v [n, 3hd], the heads' outputs [n, hd] and log-sum-exps [h, n].
  public final class Activations {
    let qkv = MatrixOperandBuffer<S>()
    let heads = MatrixOperandBuffer<S>()
    let logSumExp = Buffer<S>()
    public init() {}
  }

  /// Declares the parameters, with initial values for the weights of the two projections; their biases start as zeros.
  public init(
    _ store: ParameterStore<S>, name: String, width: Int, heads: Int, headWidth: Int? = nil, causal: Bool,
    initial: (input: Initial, output: Initial)
  ) {
    let inner = heads * (headWidth ?? width / heads)
    self.heads = heads
    self.inner = inner
    self.causal = causal
    input = Linear(
      weight: store.declare("\(name).in_proj_weight", Shape(3 * inner, width), initial.input),
      bias: store.declare("\(name).in_proj_bias", Shape(3 * inner), .zeros))
    output = Linear(
      weight: store.declare("\(name).out_proj.weight", Shape(width, inner), initial.output),
      bias: store.declare("\(name).out_proj.bias", Shape(width), .zeros))
  }

  /// y = residual + attention(x); x, residual and y are [n, w].
  public func forward(
    _ x: MatrixOperand<S>, _ sequences: Sequences, adding residual: Tensor<S>, into y: Tensor<S>,
    activations: Activations, workspace: Workspace<S>
  ) {
    let n = x.rows
    let qkv = activations.qkv.operand(Shape(n, 3 * inner), x.precision)
    let mixed = activations.heads.operand(Shape(n, inner), x.precision)
    input.forward(x, into: qkv)
    attention(
      qkv, AttentionPattern(sequences, heads: heads, causal: causal), into: mixed,
      logSumExp: activations.logSumExp.tensor(Shape(heads, n)), tiles: workspace.tiles)
    output.forward(mixed, adding: residual, into: y)
  }

  /// Writes dx, the gradient through the attention and not the residual, and adds to the parameters' gradients.
  public func backward(
    _ dy: MatrixOperand<S>, x: MatrixOperand<S>, _ sequences: Sequences, activations: Activations, dx: Tensor<S>,
    workspace: Workspace<S>
  ) {
    let n = x.rows
    let qkv = activations.qkv.operand(Shape(n, 3 * inner), x.precision)
    let mixed = activations.heads.operand(Shape(n, inner), x.precision)
    let dmixed = workspace.narrow.operand(Shape(n, inner), x.precision)
    output.backward(dy, x: mixed, dx: dmixed)
    let dqkv = workspace.wide.operand(Shape(n, 3 * inner), x.precision)
    attentionBackward(
      dmixed, o: mixed, qkv: qkv, AttentionPattern(sequences, heads: heads, causal: causal),
      logSumExp: activations.logSumExp.tensor(Shape(heads, n)), into: dqkv, tiles: workspace.tiles)
    input.backward(dqkv, x: x, dx: .fp32(dx))
  }
}
