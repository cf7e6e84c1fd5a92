internal import RealModule

// b images, t tokens of c channels each, heads of d = c / heads columns. Only the first token has a query, so the keys
// and values of all tokens need not be computed: q · (K x + k) = (Kᵀ q) · x + q · k, whose last part the softmax
// cancels, and Σ p (V x + v) = V (Σ p x) + v. That is a fiftieth of the work.

/// The operands of an attention pool in which the first token of each image attends to all of its tokens.
public struct AttentionPoolOperands<S: Scalar> {
  /// x [b · t, c].
  public let tokens: Tensor<S>
  /// q [b, c], one query for each image.
  public let query: Tensor<S>
  /// The weights K and V [c, c].
  let key: Tensor<S>
  let value: Tensor<S>
  let heads: Int

  public init(tokens: Tensor<S>, query: Tensor<S>, key: Tensor<S>, value: Tensor<S>, heads: Int) {
    (self.tokens, self.query, self.key, self.value, self.heads) = (tokens, query, key, value, heads)
  }

  fileprivate var b: Int { query.rows }
  fileprivate var c: Int { query.columns }
  fileprivate var t: Int { tokens.rows / b }
  fileprivate var d: Int { c / heads }
  /// The columns of a matrix that has c columns for each head.
  fileprivate var wide: Int { heads * c }
  /// For one head, [b, d] · [d, c] and the ways back from it; its result has `wide` columns in memory.
  fileprivate var expand: GEMM { GEMM(.nn, m: b, n: c, k: d, lda: c, ldb: c, ldc: wide) }
  fileprivate var contract: GEMM { GEMM(.nt, m: b, n: d, k: c, lda: wide, ldb: c, ldc: c) }
  fileprivate var weight: GEMM { GEMM(.tn, m: d, n: c, k: b, lda: c, ldb: wide, ldc: c) }
  /// For one image, [heads, c] · [t, c]ᵀ, [heads, t] · [t, c] and [heads, t]ᵀ · [heads, c].
  fileprivate var scores: GEMM { GEMM(.nt, m: heads, n: t, k: c, lda: c, ldb: c, ldc: t) }
  fileprivate var mixture: GEMM { GEMM(.nn, m: heads, n: c, k: t, lda: t, ldb: c, ldc: c) }
  fileprivate var slopes: GEMM { GEMM(.tn, m: t, n: c, k: heads, lda: t, ldb: c, ldc: c) }
}

/// The gradients of `AttentionPoolOperands` and of the value's bias [c]; the key's bias has none.
public typealias AttentionPoolGradients<S: Scalar> = (
  tokens: Tensor<S>, query: Tensor<S>, key: Tensor<S>, value: Tensor<S>, valueBias: Tensor<S>
)

/// The intermediate results of an attention pool that its backward reads.
public final class AttentionPoolActivations<S: Scalar> {
  private let buffers = (reach: Buffer<S>(), probabilities: Buffer<S>(), mixed: Buffer<S>())

  public init() {}

  /// Returns Kᵀ q / √d [b, heads · c], the probabilities p [b, heads · t], and Σ p x [b, heads · c].
  fileprivate func tensors(_ x: AttentionPoolOperands<S>) -> (reach: Tensor<S>, softmax: Tensor<S>, mixed: Tensor<S>) {
    let (wide, narrow) = (Shape(x.b, x.wide), Shape(x.b, x.heads * x.t))
    return (buffers.reach.tensor(wide), buffers.probabilities.tensor(narrow), buffers.mixed.tensor(wide))
  }
}

/// y[p, :] = V (Σ_t p_t x_t) + v, head by head, with p = softmax over tokens of q · K x / √d, for y [b, c] (attention
/// pooling as in Radford et al.: Learning Transferable Visual Models From Natural Language Supervision, 2021).
@specialized(where S == Float) @specialized(where S == Double)
public func attentionPool<S: Scalar>(
  _ operands: AttentionPoolOperands<S>, valueBias: Tensor<S>, into y: Tensor<S>,
  activations: AttentionPoolActivations<S>
) {
  let (x, q) = (operands.tokens, operands.query)
  guard q.rows > 0 else { return }
  let (b, t, c, d, heads, wide) = (q.rows, operands.t, q.columns, operands.d, operands.heads, operands.wide)
  precondition(
    x.rows == b * t && x.columns == c && heads * d == c && y.count == q.count,
    "attention pool of \(x.shape) with queries \(q.shape) and \(heads) heads")
  let scale = 1 / S.sqrt(S(d))
  let kept = activations.tensors(operands)
  let (tokens, ask, k, v) = (x.pointer, q.pointer, operands.key.pointer, operands.value.pointer)
  let (r, s, p) = (kept.reach.pointer, kept.mixed.pointer, kept.softmax.pointer)
  broadcast(valueBias, into: y)
  Profile.measure(\.attention) {
    for head in 0..<heads {
      S.multiply(operands.expand, alpha: scale, ask + head * d, k + head * d * c, beta: 0, r + head * c)
    }
    for image in 0..<b {
      let (rows, scores) = (tokens + image * t * c, p + image * heads * t)
      S.multiply(operands.scores, alpha: 1, r + image * wide, rows, beta: 0, scores)
      for head in 0..<heads { _ = softmaxRow(scores + head * t, seen: t, of: t, scale: 1) }
      S.multiply(operands.mixture, alpha: 1, scores, rows, beta: 0, s + image * wide)
    }
    for head in 0..<heads {
      S.multiply(operands.contract, alpha: 1, s + head * c, v + head * d * c, beta: 1, y.pointer + head * d)
    }
  }
}

/// Writes the gradients of tokens and query and adds to the others, given dy [b, c] and what `attentionPool` read and
/// kept. `scratch` holds gradients of Σ p x (then of Kᵀ q) and of the probabilities: b · heads · (c + t) scalars.
@specialized(where S == Float) @specialized(where S == Double)
public func attentionPoolBackward<S: Scalar>(
  _ dy: Tensor<S>, _ operands: AttentionPoolOperands<S>, activations: AttentionPoolActivations<S>,
  into gradients: AttentionPoolGradients<S>, scratch: Buffer<S>
) {
  let (x, q) = (operands.tokens, operands.query)
  guard q.rows > 0 else { return }
  let (b, t, c, d, heads, wide) = (q.rows, operands.t, q.columns, operands.d, operands.heads, operands.wide)
  precondition(
    x.rows == b * t && gradients.tokens.count == x.count && dy.count == q.count && gradients.query.count == q.count
      && gradients.key.count == c * c && gradients.value.count == c * c,
    "attention pool backward of \(dy.shape) into \(gradients.tokens.shape)")
  let scale = 1 / S.sqrt(S(d))
  addColumnSums(of: .fp32(dy), to: gradients.valueBias)
  let memory = scratch.tensor(Shape(b * heads * (c + t)))
  let (ds, dp) = (memory.pointer, memory.pointer + b * wide)
  let kept = activations.tensors(operands)
  let (tokens, ask, k, v) = (x.pointer, q.pointer, operands.key.pointer, operands.value.pointer)
  let (r, s, p, out) = (kept.reach.pointer, kept.mixed.pointer, kept.softmax.pointer, dy.pointer)
  let (dx, dq) = (gradients.tokens.pointer, gradients.query.pointer)
  let (dk, dv) = (gradients.key.pointer, gradients.value.pointer)
  Profile.measure(\.attention) {
    for head in 0..<heads {
      S.multiply(operands.weight, alpha: 1, out + head * d, s + head * c, beta: 1, dv + head * d * c)
      S.multiply(operands.expand, alpha: 1, out + head * d, v + head * d * c, beta: 0, ds + head * c)
    }
    for image in 0..<b {
      let (rows, drows) = (tokens + image * t * c, dx + image * t * c)
      let (chance, slope) = (p + image * heads * t, dp + image * heads * t)
      let (around, reached) = (ds + image * wide, r + image * wide)
      S.multiply(operands.scores, alpha: 1, around, rows, beta: 0, slope)
      S.multiply(operands.slopes, alpha: 1, chance, around, beta: 0, drows)
      for head in 0..<heads {
        let (probability, gradient) = (chance + head * t, slope + head * t)
        var along: S = 0
        for j in 0..<t { along = Relaxed.multiplyAdd(probability[j], gradient[j], along) }
        for j in 0..<t { gradient[j] = probability[j] * (gradient[j] - along) }
      }
      S.multiply(operands.slopes, alpha: 1, slope, reached, beta: 1, drows)
      // The gradient of Σ p x is used up; that of Kᵀ q takes its place.
      S.multiply(operands.mixture, alpha: 1, slope, rows, beta: 0, around)
    }
    for head in 0..<heads {
      S.multiply(operands.weight, alpha: scale, ask + head * d, ds + head * c, beta: 1, dk + head * d * c)
      S.multiply(operands.contract, alpha: scale, ds + head * c, k + head * d * c, beta: 0, dq + head * d)
    }
  }
}

/// tokens[p, 0, :] = mean of the points of image p; tokens[p, 1 + i, :] = its point i; plus positions [1 + points, c].
/// x is [b · points, c] and tokens [b · (1 + points), c].
@specialized(where S == Float) @specialized(where S == Double)
public func poolTokens<S: Scalar>(_ x: Tensor<S>, images b: Int, positions: Tensor<S>, into tokens: Tensor<S>) {
  let (c, t, points) = (x.columns, positions.rows, positions.rows - 1)
  precondition(
    x.rows == b * points && positions.columns == c && tokens.rows == b * t && tokens.columns == c,
    "tokens of \(x.shape) with positions \(positions.shape) into \(tokens.shape)")
  let (source, place, target) = (x.pointer, positions.pointer, tokens.pointer)
  let share = 1 / S(points)
  Threads.forEach(b) { image in
    let (from, mean) = (source + image * points * c, target + image * t * c)
    for j in 0..<c { mean[j] = 0 }
    for point in 0..<points {
      let (row, to, position) = (from + point * c, mean + (point + 1) * c, place + (point + 1) * c)
      for j in 0..<c {
        mean[j] += row[j]
        to[j] = row[j] + position[j]
      }
    }
    for j in 0..<c { mean[j] = place[j].addingProduct(mean[j], share) }
  }
}

/// Writes dx [b · points, c] and adds to dpositions [1 + points, c], given dtokens [b · (1 + points), c].
@specialized(where S == Float) @specialized(where S == Double)
public func poolTokensBackward<S: Scalar>(
  _ dtokens: Tensor<S>, images b: Int, dpositions: Tensor<S>, into dx: Tensor<S>
) {
  let (c, t, points) = (dx.columns, dpositions.rows, dpositions.rows - 1)
  precondition(
    dx.rows == b * points && dpositions.columns == c && dtokens.rows == b * t && dtokens.columns == c,
    "tokens' gradient \(dtokens.shape) into \(dx.shape), \(dpositions.shape)")
  let (source, place, target) = (dtokens.pointer, dpositions.pointer, dx.pointer)
  let share = 1 / S(points)
  for image in 0..<b {
    let mean = source + image * t * c
    for j in 0..<c { place[j] += mean[j] }
    for point in 0..<points {
      let (from, to) = (mean + (point + 1) * c, target + (image * points + point) * c)
      let position = place + (point + 1) * c
      for j in 0..<c {
        position[j] += from[j]
        to[j] = from[j].addingProduct(mean[j], share)
      }
    }
  }
}
