public import Tensor

/// What a transformer repeats: x ← x + attn(ln_1(x)); x ← x + mlp(ln_2(x)).
public struct ResidualAttentionBlock<S: Scalar> {
  public let norm1: LayerNorm<S>
  public let attention: SelfAttention<S>
  public let norm2: LayerNorm<S>
  public let mlp: MLP<S>

  /// What backward needs beside the input: 16 w numbers a row with the usual hidden width of 4 w.
  public final class Saved {
    let norm1 = LayerNorm<S>.Saved()
    let normed1 = OperandBuffer<S>()
    let attention = SelfAttention<S>.Saved()
    let middle = Buffer<S>()
    let norm2 = LayerNorm<S>.Saved()
    let normed2 = OperandBuffer<S>()
    let mlp = MLP<S>.Saved()
    let output = Buffer<S>()
    public init() {}
  }

  /// Block `index` of a transformer.
  init(_ store: ParameterStore<S>, name: String, _ config: TransformerConfig<S>, index: Int) {
    let (w, hidden) = (config.width, config.blocks.hidden[index])
    norm1 = LayerNorm(store, name: "\(name).ln_1", width: w, survivors: config.survivors)
    attention = SelfAttention(
      store, name: "\(name).attn", width: w, heads: config.blocks.heads[index],
      headWidth: config.blocks.headWidth, causal: config.causal,
      input: (config.initial.inProjection, .zeros), output: (config.initial.outProjection, .zeros))
    norm2 = LayerNorm(store, name: "\(name).ln_2", width: w, survivors: config.survivors)
    mlp = MLP(
      store, name: "\(name).mlp", width: w, hidden: hidden, activation: config.activation,
      expand: (config.initial.expand, .uniform(1 / Double(w).squareRoot())),
      contract: (config.initial.contract, .uniform(1 / Double(hidden).squareRoot())))
  }

  /// x [n, w] → [n, w], in `saved.output`. x may be that very buffer, where nothing is kept for backward.
  func forward(_ x: Tensor<S>, _ sequences: Sequences, saved: Saved, workspace: Workspace<S>) -> Tensor<S> {
    let shape = x.shape
    let precision = workspace.precision
    let normed1 = saved.normed1.place(shape, precision, scratch: workspace.branch)
    norm1.forward(x, into: normed1, saved: saved.norm1)
    let middle = saved.middle.tensor(shape)
    attention.forward(
      saved.normed1.keep(normed1, precision), sequences, adding: x, into: middle, saved: saved.attention,
      workspace: workspace)
    let normed2 = saved.normed2.place(shape, precision, scratch: workspace.branch)
    norm2.forward(middle, into: normed2, saved: saved.norm2)
    let output = saved.output.tensor(shape)
    mlp.forward(
      saved.normed2.keep(normed2, precision), adding: middle, into: output, saved: saved.mlp, workspace: workspace)
    return output
  }

  /// dx [n, w] holds the gradient of the output and, on return, that of the input.
  func backward(
    _ dx: Tensor<S>, x: Tensor<S>, _ sequences: Sequences, saved: Saved, workspace: Workspace<S>
  ) {
    let shape = x.shape
    let branch = workspace.branch.tensor(shape)
    let precision = workspace.precision
    mlp.backward(
      dx, x: saved.normed2.kept(shape, precision), saved: saved.mlp, dx: branch, workspace: workspace)
    norm2.backward(branch, x: saved.middle.tensor(shape), saved: saved.norm2, dx: dx)
    attention.backward(
      dx, x: saved.normed1.kept(shape, precision), sequences, saved: saved.attention, dx: branch, workspace: workspace)
    norm1.backward(branch, x: x, saved: saved.norm1, dx: dx)
  }
}
