public import Tensor

/// The block of a transformer with norms before its layers: x ← x + attn(ln_1(x)); x ← x + mlp(ln_2(x)), x [n, w].
public struct ResidualAttentionBlock<S: Scalar> {
  public let norm1: LayerNorm<S>
  public let attention: SelfAttention<S>
  public let norm2: LayerNorm<S>
  public let mlp: MLP<S>
  /// The range of all parameters.
  var extent: Range<Int> { norm1.weight.extent.lowerBound..<mlp.contract.bias.extent.upperBound }

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

    /// The blocks share `passing`, which holds what backward computes again: all but 10 w (`cheap`) or w (`blocks`).
    init(_ recompute: Recompute = .none, passing: Activations? = nil) {
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

  init(_ store: ParameterStore<S>, name: String, _ config: TransformerConfig<S>, index: Int) {
    let (w, hidden, initial) = (config.width, config.blocks.hidden[index], config.initial)
    norm1 = LayerNorm(store, name: "\(name).ln_1", width: w, survivors: config.survivors)
    attention = SelfAttention(
      store, name: "\(name).attn", width: w, heads: config.blocks.heads[index], headWidth: config.blocks.headWidth,
      causal: config.causal, initial: (initial.inProjection, initial.outProjection))
    norm2 = LayerNorm(store, name: "\(name).ln_2", width: w, survivors: config.survivors)
    mlp = MLP(
      store, name: "\(name).mlp", width: w, hidden: hidden, activation: config.activation,
      expand: (initial.expand, .uniform(1 / Double(w).squareRoot())),
      contract: (initial.contract, .uniform(1 / Double(hidden).squareRoot())))
  }

  /// x [n, w] → [n, w], in `activations.output`; x may lie in the same buffer if nothing is kept for backward. If of
  /// the output only some `rows` are read, one of each of b sequences, then [b, w]: of the others only keys and values
  /// are computed.
  func forward(
    _ x: Tensor<S>, _ sequences: Sequences, rows: [Int]? = nil, activations: Activations, workspace: Workspace<S>
  ) -> Tensor<S> {
    let (middle, normed) = attend(x, sequences, rows, activations, workspace)
    let output = activations.output.tensor(middle.shape)
    mlp.forward(normed, adding: middle, into: output, activations: activations.mlp)
    return output
  }

  /// Fills `activations` as the forward of x to all rows did, except for the output, which is still there.
  func restore(_ x: Tensor<S>, _ sequences: Sequences, activations: Activations, workspace: Workspace<S>) {
    let (_, normed) = attend(x, sequences, nil, activations, workspace)
    _ = mlp.expanded(normed, activations: activations.mlp)
  }

  /// Returns x + attn(ln_1(x)) of all rows or of some, and its norm.
  private func attend(
    _ x: Tensor<S>, _ sequences: Sequences, _ rows: [Int]?, _ kept: Activations, _ workspace: Workspace<S>
  ) -> (middle: Tensor<S>, normed: MatrixOperand<S>) {
    let middle = kept.middle.tensor(rows.map { Shape($0.count, x.columns) } ?? x.shape)
    let normed1 = kept.normed1.operand(x.shape, workspace.precision)
    norm1.forward(x, into: normed1, activations: kept.norm1)
    if let rows { gatherRows(x, rows, into: middle) }
    attention.forward(
      normed1, sequences, rows: rows, adding: rows == nil ? x : middle, into: middle, activations: kept.attention,
      workspace: workspace)
    let normed2 = kept.normed2.operand(middle.shape, workspace.precision)
    norm2.forward(middle, into: normed2, activations: kept.norm2)
    return (middle, normed2)
  }

  /// Replaces the gradient of the output in dx [n, w] with that of the input x. If only some rows were `read`, their
  /// gradient dy [b, w] comes in its place, and is lost.
  func backward(
    _ dx: Tensor<S>, x: Tensor<S>, _ sequences: Sequences, read: (rows: [Int], dy: Tensor<S>)? = nil,
    activations: Activations, workspace: Workspace<S>
  ) {
    let (precision, normsAgain) = (workspace.precision, activations.recompute == .cheap)
    let dy = read?.dy ?? dx
    let (dnormed2, middle) = (workspace.branch.tensor(dy.shape), activations.middle.tensor(dy.shape))
    let normed2 = activations.normed2.operand(dy.shape, precision)
    if normsAgain { norm2.forward(middle, into: normed2, activations: activations.norm2) }
    mlp.backward(
      workspace.slope.operand(dy, precision), x: normed2, activations: activations.mlp, dx: dnormed2,
      workspace: workspace)
    norm2.backward(dnormed2, x: middle, activations: activations.norm2, dx: dy)
    let (dnormed1, normed1) = (workspace.branch.tensor(x.shape), activations.normed1.operand(x.shape, precision))
    if normsAgain { norm1.forward(x, into: normed1, activations: activations.norm1) }
    attention.backward(
      workspace.slope.operand(dy, precision), x: normed1, sequences, rows: read?.rows,
      activations: activations.attention, dx: dnormed1, workspace: workspace)
    if let read { scatterRows(read.dy, read.rows, into: dx) }
    norm1.backward(dnormed1, x: x, activations: activations.norm1, dx: dx)
  }
}
