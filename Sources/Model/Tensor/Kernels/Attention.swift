internal import RealModule

// n rows of all sequences together, w = heads · d columns.

/// Scratch for the scores and probabilities of one head and sequence at a time, for each thread.
public typealias AttentionTiles = MatrixOperandBuffer

/// Rows of a sequence attend to each other in `heads` heads, or only to themselves and earlier rows if `isCausal`.
public struct AttentionPattern: Sendable {
  let sequences: Sequences
  let heads: Int
  let isCausal: Bool

  public init(_ sequences: Sequences, heads: Int, causal: Bool) {
    (self.sequences, self.heads, isCausal) = (sequences, heads, causal)
  }
}

/// o = softmax(Q Kᵀ / √d) V for every sequence and head (Vaswani et al.: Attention Is All You Need, 2017).
///
/// qkv [n, 3w] has the rows [Q | K | V]; o [n, w] has its precision. No probability is kept: backward needs only
/// `logSumExp` [heads, n], the logarithm of each row's sum of exponentials, and computes the rest again, tile by tile.
@specialized(where S == Float) @specialized(where S == Double)
public func attention<S: Scalar>(
  _ qkv: MatrixOperand<S>, _ pattern: AttentionPattern, into o: MatrixOperand<S>, logSumExp: Tensor<S>,
  tiles: AttentionTiles<S>
) {
  let (n, w, heads) = (o.rows, o.columns, pattern.heads)
  precondition(
    qkv.rows == n && qkv.columns == 3 * w && w % heads == 0 && pattern.sequences.total == n
      && logSumExp.count == heads * n, "attention of \(qkv.shape) with \(heads) heads into \(o.shape)")
  let units = AttentionUnits(pattern, o.shape, logSumExp, tiles, each: 1)
  Profile.measure(\.attention) {
    switch qkv {
    case .fp32: forward(units, FP32Elements(qkv), FP32Elements(units.scores), into: FP32Elements(o))
    case .bf16: forward(units, BFloat16Elements(qkv), units.rounded(in: tiles), into: BFloat16Elements(o))
    }
  }
}

/// Writes dqkv [n, 3w] (every element has one source), given dO [n, w] and what `attention` read and wrote.
/// With P the probabilities, dP = dO Vᵀ and D_i = ⟨dO_i, O_i⟩: dV = Pᵀ dO; dS = P (dP − D) / √d; dQ = dS K; dK = dSᵀ Q.
@specialized(where S == Float) @specialized(where S == Double)
public func attentionBackward<S: Scalar>(
  _ dO: MatrixOperand<S>, o: MatrixOperand<S>, qkv: MatrixOperand<S>, _ pattern: AttentionPattern,
  logSumExp: Tensor<S>, into dqkv: MatrixOperand<S>, tiles: AttentionTiles<S>
) {
  precondition(
    dO.shape.count == o.shape.count && dqkv.shape.count == qkv.shape.count && qkv.columns == 3 * o.columns
      && pattern.sequences.total == o.rows, "attention backward of \(dO.shape) into \(dqkv.shape)")
  let units = AttentionUnits(pattern, o.shape, logSumExp, tiles, each: 2)
  Profile.measure(\.attention) {
    switch qkv {
    case .fp32:
      backward(
        units, FP32Elements(dO), o: FP32Elements(o), qkv: FP32Elements(qkv), FP32Elements(units.scores),
        into: FP32Elements(dqkv))
    case .bf16:
      backward(
        units, BFloat16Elements(dO), o: BFloat16Elements(o), qkv: BFloat16Elements(qkv), units.rounded(in: tiles),
        into: BFloat16Elements(dqkv))
    }
  }
}

/// The work, in units of one head of one sequence.
private struct AttentionUnits<S: Scalar> {
  let pattern: AttentionPattern
  let n: Int
  let w: Int
  /// The number of scores of the longest sequence.
  let tile: Int
  let logSumExp: Pointer<S>
  /// Some tiles for each thread: one in forward, two in backward.
  let room: Shape
  let scores: Pointer<S>

  init(_ pattern: AttentionPattern, _ o: Shape, _ logSumExp: Tensor<S>, _ tiles: AttentionTiles<S>, each number: Int) {
    (self.pattern, n, w, self.logSumExp) = (pattern, o.rows, o.columns, logSumExp.pointer)
    tile = pattern.sequences.longest * pattern.sequences.longest
    room = Shape(Threads.parts(pattern.sequences.count * pattern.heads, grain: 1), number * tile)
    scores = tiles.fp32.tensor(room).pointer
  }

  var count: Int { pattern.sequences.count * pattern.heads }
  var headWidth: Int { w / pattern.heads }
  func rounded(in tiles: AttentionTiles<S>) -> BFloat16Elements<S> { BFloat16Elements(tiles.bf16.view(room).pointer) }
}

/// `probabilities` has as many tiles as there are scores, and in fp32 is the same memory.
@inline(__always)
private func forward<E: Elements>(_ units: AttentionUnits<E.Number>, _ qkv: E, _ probabilities: E, into o: E) {
  let (w, d, heads, scores, logSumExp) = (units.w, units.headWidth, units.pattern.heads, units.scores, units.logSumExp)
  let scale = 1 / E.Number.sqrt(E.Number(d))
  Threads.splitProducts(units.count) { part, range in
    let (s, p) = (scores + part * units.tile, probabilities.advanced(by: part * units.tile))
    for unit in range {
      let (sequence, head) = (unit / heads, unit % heads)
      let start = units.pattern.sequences.offsets[sequence]
      let length = units.pattern.sequences.offsets[sequence + 1] - start
      guard length > 0 else { continue }
      let q = qkv.advanced(by: start * 3 * w + head * d)
      let (k, v) = (q.advanced(by: w), q.advanced(by: 2 * w))
      E.multiply(GEMM(.nt, m: length, n: length, k: d, lda: 3 * w, ldb: 3 * w, ldc: length), q, k, into: s)
      let sums = logSumExp + head * units.n + start
      for i in 0..<length {
        let row = s + i * length
        sums[i] = softmaxRow(row, seen: units.pattern.isCausal ? i + 1 : length, of: length, scale: scale)
        p.advanced(by: i * length).take(row, length)
      }
      let mixed = o.advanced(by: start * w + head * d)
      E.multiply(GEMM(.nn, m: length, n: d, k: length, lda: length, ldb: 3 * w, ldc: w), p, v, into: mixed)
    }
  }
}

@inline(__always)
private func backward<E: Elements>(
  _ units: AttentionUnits<E.Number>, _ dO: E, o: E, qkv: E, _ probabilities: E, into dqkv: E
) {
  let (w, d, heads, tile) = (units.w, units.headWidth, units.pattern.heads, units.tile)
  let (scores, logSumExp) = (units.scores, units.logSumExp)
  let scale = 1 / E.Number.sqrt(E.Number(d))
  Threads.splitProducts(units.count) { part, range in
    let (s, p) = (scores + part * 2 * tile, probabilities.advanced(by: part * 2 * tile))
    let (dP, dS) = (s + tile, p.advanced(by: tile))
    for unit in range {
      let (sequence, head) = (unit / heads, unit % heads)
      let start = units.pattern.sequences.offsets[sequence]
      let length = units.pattern.sequences.offsets[sequence + 1] - start
      guard length > 0 else { continue }
      let (at, atHead) = (start * 3 * w + head * d, start * w + head * d)
      let (q, k, v) = (qkv.advanced(by: at), qkv.advanced(by: at + w), qkv.advanced(by: at + 2 * w))
      let (dq, dk, dv) = (dqkv.advanced(by: at), dqkv.advanced(by: at + w), dqkv.advanced(by: at + 2 * w))
      let (output, slope) = (o.advanced(by: atHead), dO.advanced(by: atHead))
      E.multiply(GEMM(.nt, m: length, n: length, k: d, lda: 3 * w, ldb: 3 * w, ldc: length), q, k, into: s)
      E.multiply(GEMM(.nt, m: length, n: length, k: d, lda: w, ldb: 3 * w, ldc: length), slope, v, into: dP)
      let sums = logSumExp + head * units.n + start
      for i in 0..<length {
        let (row, gradient) = (s + i * length, dP + i * length)
        let seen = units.pattern.isCausal ? i + 1 : length
        let along = E.dot(output.advanced(by: i * w), slope.advanced(by: i * w), d)
        softmaxRowBackward(row, gradient, seen: seen, of: length, scale: scale, logSumExp: sums[i], along: along)
        p.advanced(by: i * length).take(row, length)
        dS.advanced(by: i * length).take(gradient, length)
      }
      E.multiply(GEMM(.tn, m: length, n: d, k: length, lda: length, ldb: w, ldc: 3 * w), p, slope, into: dv)
      E.multiply(GEMM(.nn, m: length, n: d, k: length, lda: length, ldb: 3 * w, ldc: 3 * w), dS, k, into: dq)
      E.multiply(GEMM(.tn, m: length, n: d, k: length, lda: length, ldb: 3 * w, ldc: 3 * w), dS, q, into: dk)
    }
  }
}

/// row ← softmax(scale · row) over the first `seen` of `count` elements, 0 in the rest; returns the log-sum-exp.
@inline(__always) func softmaxRow<S: Scalar>(_ row: Pointer<S>, seen: Int, of count: Int, scale: S) -> S {
  let largest = S.largest(row, seen) * scale
  var sum: S = 0
  for j in 0..<seen {
    let value = S.exponential(row[j] * scale - largest)
    row[j] = value
    sum = Relaxed.sum(sum, value)
  }
  let share = 1 / sum
  for j in 0..<seen { row[j] *= share }
  for j in seen..<count { row[j] = 0 }
  return largest + S.log(sum)
}

/// row ← P = exp(scale · row − logSumExp) and gradient ← P (gradient − along) scale over the first `seen` of `count`
/// elements, 0 in the rest; in place, as a loop that writes another pointer, which may be the same, is not vectorised.
@inline(__always)
func softmaxRowBackward<S: Scalar>(
  _ row: Pointer<S>, _ gradient: Pointer<S>, seen: Int, of count: Int, scale: S, logSumExp: S, along: S
) {
  for j in 0..<seen {
    let value = S.exponential(row[j] * scale - logSumExp)
    row[j] = value
    gradient[j] = value * (gradient[j] - along) * scale
  }
  for j in seen..<count { (row[j], gradient[j]) = (0, 0) }
}
