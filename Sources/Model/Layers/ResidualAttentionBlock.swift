public import Tensor

/// The block of a transformer with norms before its layers: x ← x + attn(ln_1(x)); x ← x + mlp(ln_2(x)), x [n, w].
public struct ResidualAttentionBlock<S: Scalar> {
  public let norm1: LayerNorm<S>
  public let attention: SelfAttention<S>
  public let norm2: LayerNorm<S>
  public let mlp: MLP<S>

  /// The output, and what backward needs besides the input: 16 w numbers per row with the usual hidden width of 4 w.
  public final class Activations {
    let recompute: Recompute
    let norm1: LayerNorm<S>.Activations
    let normed1: MatrixOperandBuffer<S>
    let attention: SelfAttention<S>.Activations
    let middle: Buffer<S>
    let norm2: LayerNorm<S>.Activations
    let normed2: MatrixOperandBuffer<S>
    let mlp: MLP<S>.Activations
    let output = Buffer<S>()

    public convenience init() { self.init(.none, passing: nil) }

    /// Activations that backward computes again lie in `passing`, whose memory the blocks of a tower share. Of the 16 w
    /// numbers per row a block keeps 10 w (`cheap`) or w (`blocks`) of its own.
    init(_ recompute: Recompute, passing: Activations?) {
      let (shared, block) = (recompute == .none ? nil : passing, recompute == .blocks ? passing : nil)
      self.recompute = recompute
      norm1 = block?.norm1 ?? LayerNorm<S>.Activations()
      normed1 = shared?.normed1 ?? MatrixOperandBuffer<S>()
      attention = block?.attention ?? SelfAttention<S>.Activations()
      middle = block?.middle ?? Buffer<S>()
      norm2 = block?.norm2 ?? LayerNorm<S>.Activations()
      normed2 = shared?.normed2 ?? MatrixOperandBuffer<S>()
      mlp = block?.mlp ?? MLP<S>.Activations(active: shared?.mlp.active)
    }
  }

  /// Declares the parameters of block `index` of a transformer.
  init(_ store: ParameterStore<S>, name: String, _ config: TransformerConfig<S>, index: Int) {
    let (w, hidden) = (config.width, config.blocks.hidden[index])
    norm1 = LayerNorm(store, name: "\(name).ln_1", width: w, survivors: config.survivors)
    attention = SelfAttention(
      store, name: "\(name).attn", width: w, heads: config.blocks.heads[index],
      headWidth: config.blocks.headWidth, causal: config.causal,
      initial: (config.initial.inProjection, config.initial.outProjection))
    norm2 = LayerNorm(store, name: "\(name).ln_2", width: w, survivors: config.survivors)
    mlp = MLP(
      store, name: "\(name).mlp", width: w, hidden: hidden, activation: config.activation,
      expand: (config.initial.expand, .uniform(1 / Double(w).squareRoot())),
      contract: (config.initial.contract, .uniform(1 / Double(hidden).squareRoot())))
  }

  /// x [n, w] → [n, w], in `activations.output`; x may lie in the same buffer if nothing is kept for backward.
  func forward(_ x: Tensor<S>, _ sequences: Sequences, activations: Activations, workspace: Workspace<S>) -> Tensor<S> {
    let (middle, normed) = attend(x, sequences, activations, workspace)
    let output = activations.output.tensor(x.shape)
    mlp.forward(normed, adding: middle, into: output, activations: activations.mlp)
    return output
  }

  /// Fills `activations` as the forward of x did, except for the output, which is still there.
  func restore(_ x: Tensor<S>, _ sequences: Sequences, activations: Activations, workspace: Workspace<S>) {
    let (_, normed) = attend(x, sequences, activations, workspace)
    _ = mlp.expanded(normed, activations: activations.mlp)
  }

  /// Returns x + attn(ln_1(x)), and its norm.
  private func attend(
    _ x: Tensor<S>, _ sequences: Sequences, _ activations: Activations, _ workspace: Workspace<S>
  ) -> (middle: Tensor<S>, normed: MatrixOperand<S>) {
    let middle = activations.middle.tensor(x.shape)
    attention.forward(
      normed(x, by: norm1, activations.norm1, into: activations.normed1, workspace), sequences, adding: x, into: middle,
      activations: activations.attention, workspace: workspace)
    return (middle, normed(middle, by: norm2, activations.norm2, into: activations.normed2, workspace))
  }

  /// Returns the norm of x in `buffer`, which already holds it if `isKept`.
  private func normed(
    _ x: Tensor<S>, by norm: LayerNorm<S>, _ activations: LayerNorm<S>.Activations, into buffer: MatrixOperandBuffer<S>,
    _ workspace: Workspace<S>, isKept: Bool = false
  ) -> MatrixOperand<S> {
    let y = buffer.operand(x.shape, workspace.precision)
    if !isKept { norm.forward(x, into: y, activations: activations) }
    return y
  }

  /// Replaces the gradient of the output in dx [n, w] with that of the input x.
  func backward(
    _ dx: Tensor<S>, x: Tensor<S>, _ sequences: Sequences, activations: Activations, workspace: Workspace<S>
  ) {
    let (shape, precision) = (x.shape, workspace.precision)
    let branch = workspace.branch.tensor(shape)
    let middle = activations.middle.tensor(shape)
    let isKept = activations.recompute != .cheap
    let normed2 = normed(
      middle, by: norm2, activations.norm2, into: activations.normed2, workspace, isKept: isKept)
    mlp.backward(
      workspace.slope.operand(dx, precision), x: normed2, activations: activations.mlp, dx: branch, workspace: workspace
    )
    norm2.backward(branch, x: middle, activations: activations.norm2, dx: dx)
    let normed1 = normed(x, by: norm1, activations.norm1, into: activations.normed1, workspace, isKept: isKept)
    attention.backward(
      workspace.slope.operand(dx, precision), x: normed1, sequences, activations: activations.attention, dx: branch,
      workspace: workspace)
    norm1.backward(branch, x: x, activations: activations.norm1, dx: dx)
  }
}
