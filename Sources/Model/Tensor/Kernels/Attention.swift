internal import RealModule

// n rows of all sequences together, w = heads · d columns; L is the length of one sequence.

/// Scores and probabilities of one head and sequence at a time, for each thread.
public final class AttentionTiles<S: Scalar> {
  fileprivate let exact = Buffer<S>()
  fileprivate let rounded = RoundedBuffer()

  public init() {}
}

/// o = softmax(Q Kᵀ / √d) V for every sequence and head, by rows of qkv = [Q | K | V] ([n, 3w] to [n, w]); both are
/// exact or both rounded, and then so are the probabilities.
///
/// `causal` lets a row see itself and the rows before it. No probability is kept: backward needs only the logarithm
/// of each row's sum of exponentials, `logSumExp` [heads, n], and computes the rest again from qkv, tile by tile.
@specialized(where S == Float)
@specialized(where S == Double)
public func attention<S: Scalar>(
  _ qkv: Operand<S>, _ sequences: Sequences, heads: Int, causal: Bool, into o: Operand<S>, logSumExp: Tensor<S>,
  tiles: AttentionTiles<S>
) {
  let (n, w) = (o.rows, o.columns)
  precondition(
    qkv.rows == n && qkv.columns == 3 * w && w % heads == 0 && sequences.total == n && logSumExp.count == heads * n,
    "attention of \(qkv.shape) with \(heads) heads into \(o.shape)")
  let tile = sequences.longest * sequences.longest
  let room = Shape(Threads.parts(sequences.count * heads, grain: 1), tile)
  let scores = tiles.exact.tensor(room).pointer
  let units = AttentionUnits(sequences: sequences, heads: heads, n: n, w: w, tile: tile, causal: causal)
  Profile.measure(\.attention) {
    switch (qkv, o) {
    case (.exact(let qkv), .exact(let o)):
      // Probabilities take the place of scores.
      forward(units, ExactElements(qkv), scores, ExactElements(scores), into: ExactElements(o), logSumExp.pointer)
    case (.rounded(let qkv), .rounded(let o)):
      let probabilities = RoundedElements<S>(tiles.rounded.view(room))
      forward(units, RoundedElements(qkv), scores, probabilities, into: RoundedElements(o), logSumExp.pointer)
    default: preconditionFailure("an exact and a rounded matrix: \(qkv.shape), \(o.shape)")
    }
  }
}

/// Writes dqkv (assigned, not added: every element has one origin). dO, o, qkv and dqkv are all exact or all rounded.
///
/// With P the probabilities, dP = dO Vᵀ and D_i = ⟨dO_i, O_i⟩: dV = Pᵀ dO; dS = P (dP − D) / √d; dQ = dS K; dK = dSᵀ Q.
@specialized(where S == Float)
@specialized(where S == Double)
public func attentionBackward<S: Scalar>(
  _ dO: Operand<S>, o: Operand<S>, qkv: Operand<S>, logSumExp: Tensor<S>, _ sequences: Sequences, heads: Int,
  causal: Bool, into dqkv: Operand<S>, tiles: AttentionTiles<S>
) {
  let (n, w) = (o.rows, o.columns)
  precondition(
    dO.shape.count == o.shape.count && dqkv.shape.count == qkv.shape.count && qkv.columns == 3 * w
      && sequences.total == n, "attention backward of \(dO.shape) into \(dqkv.shape)")
  let tile = sequences.longest * sequences.longest
  let room = Shape(Threads.parts(sequences.count * heads, grain: 1), 2 * tile)
  let scores = tiles.exact.tensor(room).pointer
  let units = AttentionUnits(sequences: sequences, heads: heads, n: n, w: w, tile: tile, causal: causal)
  Profile.measure(\.attention) {
    switch (dO, o, qkv, dqkv) {
    case (.exact(let dO), .exact(let o), .exact(let qkv), .exact(let dqkv)):
      backward(
        units, ExactElements(dO), o: ExactElements(o), qkv: ExactElements(qkv), logSumExp.pointer, scores,
        ExactElements(scores), into: ExactElements(dqkv))
    case (.rounded(let dO), .rounded(let o), .rounded(let qkv), .rounded(let dqkv)):
      backward(
        units, RoundedElements(dO), o: RoundedElements(o), qkv: RoundedElements(qkv), logSumExp.pointer, scores,
        RoundedElements(tiles.rounded.view(room)), into: RoundedElements(dqkv))
    default: preconditionFailure("exact and rounded matrices: \(dO.shape), \(o.shape), \(qkv.shape), \(dqkv.shape)")
    }
  }
}

/// A unit of work is one head of one sequence.
private struct AttentionUnits {
  let sequences: Sequences
  let heads: Int
  let n: Int
  let w: Int
  /// Scores of the longest sequence.
  let tile: Int
  let causal: Bool

  var count: Int { sequences.count * heads }
  var headWidth: Int { w / heads }
}

/// `scores` and `probabilities` have a tile a thread, and may be the same memory.
@inline(__always)
private func forward<E: Elements>(
  _ units: AttentionUnits, _ qkv: E, _ scores: UnsafeMutablePointer<E.Number>, _ probabilities: E, into o: E,
  _ logSumExp: UnsafeMutablePointer<E.Number>
) {
  let (w, d, heads) = (units.w, units.headWidth, units.heads)
  let scale = 1 / E.Number.sqrt(E.Number(d))
  Threads.splitProducts(units.count) { part, range in
    let (s, p) = (scores + part * units.tile, probabilities.advanced(by: part * units.tile))
    for unit in range {
      let (sequence, head) = (unit / heads, unit % heads)
      let start = units.sequences.offsets[sequence]
      let length = units.sequences.offsets[sequence + 1] - start
      guard length > 0 else { continue }
      let q = qkv.advanced(by: start * 3 * w + head * d)
      let (k, v) = (q.advanced(by: w), q.advanced(by: 2 * w))
      E.multiply(transposeA: false, transposeB: true, length, length, d, q, 3 * w, k, 3 * w, into: s, length)
      let sums = logSumExp + head * units.n + start
      for i in 0..<length {
        let row = s + i * length
        sums[i] = softmaxRow(row, units.causal ? i + 1 : length, length, scale: scale)
        p.advanced(by: i * length).take(row, length)
      }
      E.multiply(
        transposeA: false, transposeB: false, length, d, length, p, length, v, 3 * w,
        into: o.advanced(by: start * w + head * d), w)
    }
  }
}

/// `scores` and `probabilities` have two tiles a thread, and may be the same memory.
@inline(__always)
private func backward<E: Elements>(
  _ units: AttentionUnits, _ dO: E, o: E, qkv: E, _ logSumExp: UnsafeMutablePointer<E.Number>,
  _ scores: UnsafeMutablePointer<E.Number>, _ probabilities: E, into dqkv: E
) {
  let (w, d, heads, tile) = (units.w, units.headWidth, units.heads, units.tile)
  let scale = 1 / E.Number.sqrt(E.Number(d))
  Threads.splitProducts(units.count) { part, range in
    let (s, p) = (scores + part * 2 * tile, probabilities.advanced(by: part * 2 * tile))
    let (dP, dS) = (s + tile, p.advanced(by: tile))
    for unit in range {
      let (sequence, head) = (unit / heads, unit % heads)
      let start = units.sequences.offsets[sequence]
      let length = units.sequences.offsets[sequence + 1] - start
      guard length > 0 else { continue }
      let (at, atHead) = (start * 3 * w + head * d, start * w + head * d)
      let (q, k, v) = (qkv.advanced(by: at), qkv.advanced(by: at + w), qkv.advanced(by: at + 2 * w))
      let (dq, dk, dv) = (dqkv.advanced(by: at), dqkv.advanced(by: at + w), dqkv.advanced(by: at + 2 * w))
      let (output, slope) = (o.advanced(by: atHead), dO.advanced(by: atHead))
      E.multiply(transposeA: false, transposeB: true, length, length, d, q, 3 * w, k, 3 * w, into: s, length)
      E.multiply(transposeA: false, transposeB: true, length, length, d, slope, w, v, 3 * w, into: dP, length)
      let sums = logSumExp + head * units.n + start
      for i in 0..<length {
        let (row, gradient) = (s + i * length, dP + i * length)
        let seen = units.causal ? i + 1 : length
        let along = E.dot(output.advanced(by: i * w), slope.advanced(by: i * w), d)
        softmaxRowBackward(row, gradient, seen, length, scale: scale, logSumExp: sums[i], along: along)
        p.advanced(by: i * length).take(row, length)
        dS.advanced(by: i * length).take(gradient, length)
      }
      E.multiply(transposeA: true, transposeB: false, length, d, length, p, length, slope, w, into: dv, 3 * w)
      E.multiply(transposeA: false, transposeB: false, length, d, length, dS, length, k, 3 * w, into: dq, 3 * w)
      E.multiply(transposeA: true, transposeB: false, length, d, length, dS, length, q, 3 * w, into: dk, 3 * w)
    }
  }
}

/// row ← softmax(scale · row) over the first `seen` elements, 0 for the rest; returns the logarithm of the sum of
/// exponentials.
@inline(__always)
func softmaxRow<S: Scalar>(_ row: UnsafeMutablePointer<S>, _ seen: Int, _ count: Int, scale: S) -> S {
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

/// row ← P = exp(scale · row − logSumExp) and gradient ← P (gradient − along) scale over the first `seen` elements, 0
/// for the rest.
///
/// Each is changed in place: a loop that reads one pointer and writes another that may be the same is not vectorised.
@inline(__always)
private func softmaxRowBackward<S: Scalar>(
  _ row: UnsafeMutablePointer<S>, _ gradient: UnsafeMutablePointer<S>, _ seen: Int, _ count: Int, scale: S,
  logSumExp: S, along: S
) {
  for j in 0..<seen {
    let value = S.exponential(row[j] * scale - logSumExp)
    row[j] = value
    gradient[j] = value * (gradient[j] - along) * scale
  }
  for j in seen..<count {
    row[j] = 0
    gradient[j] = 0
  }
}
