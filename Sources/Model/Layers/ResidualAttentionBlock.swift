public import Tensor

/// What a transformer repeats: x ← x + attn(ln_1(x)); x ← x + mlp(ln_2(x)).
public struct ResidualAttentionBlock<S: Scalar> {
  public let norm1: LayerNorm<S>
  public let attention: SelfAttention<S>
  public let norm2: LayerNorm<S>
  public let mlp: MLP<S>

  /// What backward needs beside the input, and the output: 16 w numbers a row with the usual hidden width of 4 w.
  public final class Saved {
    let recompute: Recompute
    let norm1: LayerNorm<S>.Saved
    let normed1: OperandBuffer<S>
    let attention: SelfAttention<S>.Saved
    let middle: Buffer<S>
    let norm2: LayerNorm<S>.Saved
    let normed2: OperandBuffer<S>
    let mlp: MLP<S>.Saved
    let output = Buffer<S>()

    public convenience init() { self.init(.none, passing: nil) }

    /// What is made again has its place in `passing`, whose memory the blocks of a tower share: of 16 w numbers a row
    /// 10 w (cheap) or w (blocks) are a block's own.
    init(_ recompute: Recompute, passing: Saved?) {
      let (shared, block) = (recompute == .none ? nil : passing, recompute == .blocks ? passing : nil)
      self.recompute = recompute
      norm1 = block?.norm1 ?? LayerNorm<S>.Saved()
      normed1 = shared?.normed1 ?? OperandBuffer<S>()
      attention = block?.attention ?? SelfAttention<S>.Saved()
      middle = block?.middle ?? Buffer<S>()
      norm2 = block?.norm2 ?? LayerNorm<S>.Saved()
      normed2 = shared?.normed2 ?? OperandBuffer<S>()
      mlp = block?.mlp ?? MLP<S>.Saved(active: shared?.mlp.active)
    }
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
    let (middle, normed) = attend(x, sequences, saved, workspace)
    let output = saved.output.tensor(x.shape)
    mlp.forward(normed, adding: middle, into: output, saved: saved.mlp)
    return output
  }

  /// Fills `saved` as the forward of x did, but for the output, which is still there.
  func restore(_ x: Tensor<S>, _ sequences: Sequences, saved: Saved, workspace: Workspace<S>) {
    let (_, normed) = attend(x, sequences, saved, workspace)
    _ = mlp.expanded(normed, saved: saved.mlp)
  }

  /// The sum behind the attention, and its norm.
  private func attend(
    _ x: Tensor<S>, _ sequences: Sequences, _ saved: Saved, _ workspace: Workspace<S>
  ) -> (middle: Tensor<S>, normed: Operand<S>) {
    let middle = saved.middle.tensor(x.shape)
    attention.forward(
      normed(x, by: norm1, saved.norm1, into: saved.normed1, workspace), sequences, adding: x, into: middle,
      saved: saved.attention, workspace: workspace)
    return (middle, normed(middle, by: norm2, saved.norm2, into: saved.normed2, workspace))
  }

  private func normed(
    _ x: Tensor<S>, by norm: LayerNorm<S>, _ saved: LayerNorm<S>.Saved, into buffer: OperandBuffer<S>,
    _ workspace: Workspace<S>
  ) -> Operand<S> {
    let y = buffer.operand(x.shape, workspace.precision)
    norm.forward(x, into: y, saved: saved)
    return y
  }

  /// dx [n, w] holds the gradient of the output and, on return, that of the input.
  func backward(
    _ dx: Tensor<S>, x: Tensor<S>, _ sequences: Sequences, saved: Saved, workspace: Workspace<S>
  ) {
    let (shape, precision) = (x.shape, workspace.precision)
    let branch = workspace.branch.tensor(shape)
    let middle = saved.middle.tensor(shape)
    let isKept = saved.recompute != .cheap
    let normed2 =
      isKept
      ? saved.normed2.operand(shape, precision) : normed(middle, by: norm2, saved.norm2, into: saved.normed2, workspace)
    mlp.backward(
      workspace.slope.operand(dx, precision), x: normed2, saved: saved.mlp, dx: branch, workspace: workspace)
    norm2.backward(branch, x: middle, saved: saved.norm2, dx: dx)
    let normed1 =
      isKept
      ? saved.normed1.operand(shape, precision) : normed(x, by: norm1, saved.norm1, into: saved.normed1, workspace)
    attention.backward(
      workspace.slope.operand(dx, precision), x: normed1, sequences, saved: saved.attention, dx: branch,
      workspace: workspace)
    norm1.backward(branch, x: x, saved: saved.norm1, dx: dx)
  }
}
