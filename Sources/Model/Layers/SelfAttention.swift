public import Tensor

/// Multi-head attention within sequences (Vaswani et al.: Attention Is All You Need, 2017). `in_proj_weight` [3 h d, w]
/// holds the rows of q, k and v in this order; each of h heads has d consecutive ones of each. Unpruned, h d = w.
public struct SelfAttention<S: Scalar> {
  public let input: Linear<S>
  public let output: Linear<S>
  public let heads: Int
  public let causal: Bool
  private let inner: Int  // h d

  /// Backward needs, besides the input, q, k, v [n, 3hd], the heads' outputs [n, hd] and log-sum-exps [h, n]; if only b
  /// rows have queries, k, v [n, 2hd] with q [b, hd] behind them, [b, hd] and [h, b].
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
    input = Linear(
      store, prefix: "\(name).in_proj_", from: width, to: 3 * inner, (initial.input, .zeros), isOperand: true)
    output = Linear(
      store, prefix: "\(name).out_proj.", from: inner, to: width, (initial.output, .zeros), isOperand: true)
  }

  /// y = residual + attention(x); x, residual and y are [n, w]. With `rows`, one of each of b sequences, only these
  /// have queries, and residual and y are [b, w].
  public func forward(
    _ x: MatrixOperand<S>, _ sequences: Sequences, rows: [Int]? = nil, adding residual: Tensor<S>, into y: Tensor<S>,
    activations: Activations, workspace: Workspace<S>
  ) {
    let pattern = AttentionPattern(sequences, heads: heads, causal: causal)
    let (mixed, logSumExp) = results(y.rows, x.precision, activations)
    if let rows {
      let (q, kv) = parts(of: activations.qkv, rows.count, x)
      input.forward(asking(x, rows, workspace), columns: queries, into: q)
      input.forward(x, columns: keysAndValues, into: kv)
      rowAttention(q, kv: kv, pattern, rows: rows, into: mixed, logSumExp: logSumExp, tiles: workspace.tiles)
    } else {
      let qkv = activations.qkv.operand(Shape(x.rows, 3 * inner), x.precision)
      input.forward(x, into: qkv)
      attention(qkv, pattern, into: mixed, logSumExp: logSumExp, tiles: workspace.tiles)
    }
    output.forward(mixed, adding: residual, into: y)
  }

  /// Writes dx [n, w], the gradient through the attention and not the residual, and adds to the parameters' gradients;
  /// dy is [n, w], or [b, w] with the `rows` of forward.
  public func backward(
    _ dy: MatrixOperand<S>, x: MatrixOperand<S>, _ sequences: Sequences, rows: [Int]? = nil, activations: Activations,
    dx: Tensor<S>, workspace: Workspace<S>
  ) {
    let pattern = AttentionPattern(sequences, heads: heads, causal: causal)
    let (mixed, logSumExp) = results(dy.rows, x.precision, activations)
    let dmixed = workspace.narrow.operand(mixed.shape, x.precision)
    output.backward(dy, x: mixed, dx: dmixed)
    if let rows {
      let ((q, kv), slopes) = (parts(of: activations.qkv, rows.count, x), parts(of: workspace.wide, rows.count, x))
      rowAttentionBackward(
        dmixed, o: mixed, q: q, kv: kv, pattern, rows: rows, logSumExp: logSumExp, into: slopes, tiles: workspace.tiles)
      input.backward(slopes.kv, x: x, columns: keysAndValues, dx: .fp32(dx))
      let dasking = workspace.dasking.tensor(Shape(rows.count, x.columns))
      input.backward(slopes.q, x: asking(x, rows, workspace), columns: queries, dx: .fp32(dasking))
      addRows(dasking, rows, to: dx)
    } else {
      let qkv = activations.qkv.operand(Shape(x.rows, 3 * inner), x.precision)
      let dqkv = workspace.wide.operand(qkv.shape, x.precision)
      attentionBackward(
        dmixed, o: mixed, qkv: qkv, pattern, logSumExp: logSumExp, into: dqkv, tiles: workspace.tiles)
      input.backward(dqkv, x: x, dx: .fp32(dx))
    }
  }

  /// The columns of the fused projection.
  private var queries: Range<Int> { 0..<inner }
  private var keysAndValues: Range<Int> { inner..<3 * inner }

  /// Returns the outputs of the heads [n, hd] and the log-sum-exps [h, n] of n rows with queries.
  private func results(
    _ n: Int, _ precision: ComputePrecision, _ kept: Activations
  ) -> (mixed: MatrixOperand<S>, logSumExp: Tensor<S>) {
    (kept.heads.operand(Shape(n, inner), precision), kept.logSumExp.tensor(Shape(heads, n)))
  }

  /// Returns the rows of x that have queries [b, w].
  private func asking(_ x: MatrixOperand<S>, _ rows: [Int], _ workspace: Workspace<S>) -> MatrixOperand<S> {
    let asking = workspace.asking.operand(Shape(rows.count, x.columns), x.precision)
    gatherRows(x, rows, into: asking)
    return asking
  }

  /// Returns q [b, hd] and k, v [n, 2hd], which lie in one buffer, for an input x [n, w].
  private func parts(
    of buffer: MatrixOperandBuffer<S>, _ b: Int, _ x: MatrixOperand<S>
  ) -> (q: MatrixOperand<S>, kv: MatrixOperand<S>) {
    let n = x.rows
    let all = buffer.operand(Shape(2 * n + b, inner), x.precision)
    return (all.rows(2 * n..<2 * n + b), all.rows(0..<2 * n).reshaped(Shape(n, 2 * inner)))
  }
}
