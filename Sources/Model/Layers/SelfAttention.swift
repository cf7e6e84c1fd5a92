public import Tensor

/// Multi-head attention of sequences to themselves, with the fused projection of q, k and v.
///
/// `in_proj_weight` [3 h d, w] holds the rows of q, k and v in this order; each of h heads has d consecutive columns of
/// each. In a plain transformer h d = w.
public struct SelfAttention<S: Scalar> {
  public let input: Linear<S>
  public let output: Linear<S>
  public let heads: Int
  public let causal: Bool
  /// h d.
  private let inner: Int

  /// What backward needs beside the input: q, k, v [n, 3hd], the heads' outputs [n, hd] and log-sum-exps [heads, n].
  public final class Saved {
    let qkv = OperandBuffer<S>()
    let heads = OperandBuffer<S>()
    let logSumExp = Buffer<S>()
    public init() {}
  }

  public init(
    _ store: ParameterStore<S>, name: String, width: Int, heads: Int, headWidth: Int? = nil, causal: Bool,
    input: (weight: Initial, bias: Initial), output: (weight: Initial, bias: Initial)
  ) {
    let inner = heads * (headWidth ?? width / heads)
    self.heads = heads
    self.inner = inner
    self.causal = causal
    self.input = Linear(
      weight: store.declare("\(name).in_proj_weight", Shape(3 * inner, width), input.weight),
      bias: store.declare("\(name).in_proj_bias", Shape(3 * inner), input.bias))
    self.output = Linear(
      weight: store.declare("\(name).out_proj.weight", Shape(width, inner), output.weight),
      bias: store.declare("\(name).out_proj.bias", Shape(width), output.bias))
  }

  /// y = residual + attention(x); x, residual and y are [n, w].
  public func forward(
    _ x: Operand<S>, _ sequences: Sequences, adding residual: Tensor<S>, into y: Tensor<S>, saved: Saved,
    workspace: Workspace<S>
  ) {
    let n = x.rows
    let qkv = saved.qkv.operand(Shape(n, 3 * inner), x.precision)
    let mixed = saved.heads.operand(Shape(n, inner), x.precision)
    input.forward(x, into: qkv)
    attention(
      qkv, sequences, heads: heads, causal: causal, into: mixed, logSumExp: saved.logSumExp.tensor(Shape(heads, n)),
      tiles: workspace.tiles)
    output.forward(mixed, adding: residual, into: y)
  }

  /// Writes dx, the gradient by way of the attention alone; adds to the parameters' gradients.
  public func backward(
    _ dy: Operand<S>, x: Operand<S>, _ sequences: Sequences, saved: Saved, dx: Tensor<S>, workspace: Workspace<S>
  ) {
    let n = x.rows
    let qkv = saved.qkv.operand(Shape(n, 3 * inner), x.precision)
    let mixed = saved.heads.operand(Shape(n, inner), x.precision)
    let dmixed = workspace.narrow.operand(Shape(n, inner), x.precision)
    output.backward(dy, x: mixed, dx: dmixed)
    let dqkv = workspace.wide.operand(Shape(n, 3 * inner), x.precision)
    attentionBackward(
      dmixed, o: mixed, qkv: qkv, logSumExp: saved.logSumExp.tensor(Shape(heads, n)), sequences, heads: heads,
      causal: causal, into: dqkv, tiles: workspace.tiles)
    input.backward(dqkv, x: x, dx: .exact(dx))
  }
}
