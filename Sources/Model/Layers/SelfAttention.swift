public import Tensor

/// Multi-head attention of sequences to themselves, with the fused projection of q, k and v.
///
/// `in_proj_weight` [3w, w] holds the rows of q, k and v in this order; each head has w / heads consecutive columns.
public struct SelfAttention<S: Scalar> {
  public let input: Linear<S>
  public let output: Linear<S>
  public let heads: Int
  public let causal: Bool

  /// What backward needs beside the input: q, k, v [n, 3w], the heads' outputs [n, w] and log-sum-exps [heads, n].
  public final class Saved {
    let qkv = Buffer<S>()
    let heads = Buffer<S>()
    let logSumExp = Buffer<S>()
    public init() {}
  }

  public init(
    _ store: ParameterStore<S>, name: String, width: Int, heads: Int, causal: Bool,
    input: (weight: Initial, bias: Initial), output: (weight: Initial, bias: Initial)
  ) {
    self.heads = heads
    self.causal = causal
    self.input = Linear(
      weight: store.declare("\(name).in_proj_weight", Shape(3 * width, width), input.weight),
      bias: store.declare("\(name).in_proj_bias", Shape(3 * width), input.bias))
    self.output = Linear(
      weight: store.declare("\(name).out_proj.weight", Shape(width, width), output.weight),
      bias: store.declare("\(name).out_proj.bias", Shape(width), output.bias))
  }

  /// y = residual + attention(x); x, residual and y are [n, w].
  public func forward(
    _ x: Tensor<S>, _ sequences: Sequences, adding residual: Tensor<S>, into y: Tensor<S>, saved: Saved,
    workspace: Workspace<S>
  ) {
    let (n, w) = (x.rows, x.columns)
    let qkv = saved.qkv.tensor(Shape(n, 3 * w))
    let mixed = saved.heads.tensor(Shape(n, w))
    input.forward(x, into: qkv)
    attention(
      qkv, sequences, heads: heads, causal: causal, into: mixed, logSumExp: saved.logSumExp.tensor(Shape(heads, n)),
      scratch: workspace.tiles)
    output.forward(mixed, adding: residual, into: y)
  }

  /// Writes dx, the gradient by way of the attention alone; adds to the parameters' gradients.
  public func backward(
    _ dy: Tensor<S>, x: Tensor<S>, _ sequences: Sequences, saved: Saved, dx: Tensor<S>, workspace: Workspace<S>
  ) {
    let (n, w) = (x.rows, x.columns)
    let mixed = saved.heads.tensor(Shape(n, w))
    let dmixed = workspace.narrow.tensor(Shape(n, w))
    output.backward(dy, x: mixed, dx: dmixed)
    let dqkv = workspace.wide.tensor(Shape(n, 3 * w))
    attentionBackward(
      dmixed, o: mixed, qkv: saved.qkv.tensor(Shape(n, 3 * w)), logSumExp: saved.logSumExp.tensor(Shape(heads, n)),
      sequences, heads: heads, causal: causal, into: dqkv, scratch: workspace.tiles)
    input.backward(dqkv, x: x, dx: dx)
  }
}
