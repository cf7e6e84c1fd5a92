internal import RealModule

// n rows of all sequences together, w = heads · d columns; L is the length of one sequence.

/// o = softmax(Q Kᵀ / √d) V for every sequence and head, by rows of qkv = [Q | K | V] ([n, 3w] to [n, w]).
///
/// `causal` lets a row see itself and the rows before it. No probability is kept: backward needs only the logarithm
/// of each row's sum of exponentials, `logSumExp` [heads, n], and computes the rest again from qkv, tile by tile.
@specialized(where S == Float)
@specialized(where S == Double)
public func attention<S: Scalar>(
  _ qkv: Tensor<S>, _ sequences: Sequences, heads: Int, causal: Bool, into o: Tensor<S>, logSumExp: Tensor<S>,
  scratch: Buffer<S>
) {
  let (n, w) = (o.rows, o.columns)
  let d = w / heads
  precondition(
    qkv.rows == n && qkv.columns == 3 * w && heads * d == w && sequences.total == n && logSumExp.count == heads * n,
    "attention of \(qkv.shape) with \(heads) heads into \(o.shape)")
  let scale = 1 / S.sqrt(S(d))
  let units = sequences.count * heads
  let tile = sequences.longest * sequences.longest
  let scores = scratch.tensor(Shape(Threads.parts(units, grain: 1), tile)).pointer
  let (x, out, lse) = (qkv.pointer, o.pointer, logSumExp.pointer)
  Profile.measure(\.attention) {
    Threads.splitProducts(units) { part, range in
      let s = scores + part * tile
      for unit in range {
        let (sequence, head) = (unit / heads, unit % heads)
        let start = sequences.offsets[sequence]
        let length = sequences.offsets[sequence + 1] - start
        guard length > 0 else { continue }
        let q = x + start * 3 * w + head * d
        S.multiply(
          transposeA: false, transposeB: true, length, length, d, alpha: scale, q, 3 * w, q + w, 3 * w, beta: 0, s,
          length
        )
        let sums = lse + head * n + start
        for i in 0..<length {
          let row = s + i * length
          let seen = causal ? i + 1 : length
          sums[i] = softmaxRow(row, seen)
          for j in seen..<length { row[j] = 0 }
        }
        S.multiply(
          transposeA: false, transposeB: false, length, d, length, alpha: 1, s, length, q + 2 * w, 3 * w,
          beta: 0, out + start * w + head * d, w)
      }
    }
  }
}

/// Writes dqkv (assigned, not added: every element has one origin).
///
/// With P the probabilities, dP = dO Vᵀ and D_i = ⟨dO_i, O_i⟩: dV = Pᵀ dO; dS = P (dP − D); dQ = dS K / √d; dK = dSᵀ Q / √d.
@specialized(where S == Float)
@specialized(where S == Double)
public func attentionBackward<S: Scalar>(
  _ dO: Tensor<S>, o: Tensor<S>, qkv: Tensor<S>, logSumExp: Tensor<S>, _ sequences: Sequences, heads: Int, causal: Bool,
  into dqkv: Tensor<S>, scratch: Buffer<S>
) {
  let (n, w) = (o.rows, o.columns)
  let d = w / heads
  precondition(
    dO.count == o.count && dqkv.count == qkv.count && qkv.columns == 3 * w && sequences.total == n,
    "attention backward of \(dO.shape) into \(dqkv.shape)")
  let scale = 1 / S.sqrt(S(d))
  let units = sequences.count * heads
  let tile = sequences.longest * sequences.longest
  let tiles = scratch.tensor(Shape(Threads.parts(units, grain: 1), 2 * tile)).pointer
  let (x, dx, out, dout, lse) = (qkv.pointer, dqkv.pointer, o.pointer, dO.pointer, logSumExp.pointer)
  Profile.measure(\.attention) {
    Threads.splitProducts(units) { part, range in
      let p = tiles + part * 2 * tile
      let ds = p + tile
      for unit in range {
        let (sequence, head) = (unit / heads, unit % heads)
        let start = sequences.offsets[sequence]
        let length = sequences.offsets[sequence + 1] - start
        guard length > 0 else { continue }
        let at = start * 3 * w + head * d
        let (q, k, v) = (x + at, x + at + w, x + at + 2 * w)
        let (dq, dk, dv) = (dx + at, dx + at + w, dx + at + 2 * w)
        let (oUnit, doUnit) = (out + start * w + head * d, dout + start * w + head * d)
        S.multiply(
          transposeA: false, transposeB: true, length, length, d, alpha: scale, q, 3 * w, k, 3 * w, beta: 0, p, length)
        S.multiply(
          transposeA: false, transposeB: true, length, length, d, alpha: 1, doUnit, w, v, 3 * w, beta: 0, ds, length)
        let sums = lse + head * n + start
        for i in 0..<length {
          let (row, gradient) = (p + i * length, ds + i * length)
          let seen = causal ? i + 1 : length
          var along: S = 0
          for j in 0..<d { along = Relaxed.multiplyAdd(oUnit[i * w + j], doUnit[i * w + j], along) }
          let sum = sums[i]
          for j in 0..<seen {
            let probability = S.exponential(row[j] - sum)
            row[j] = probability
            gradient[j] = probability * (gradient[j] - along)
          }
          for j in seen..<length {
            row[j] = 0
            gradient[j] = 0
          }
        }
        S.multiply(
          transposeA: true, transposeB: false, length, d, length, alpha: 1, p, length, doUnit, w, beta: 0, dv, 3 * w)
        S.multiply(
          transposeA: false, transposeB: false, length, d, length, alpha: scale, ds, length, k, 3 * w, beta: 0, dq,
          3 * w)
        S.multiply(
          transposeA: true, transposeB: false, length, d, length, alpha: scale, ds, length, q, 3 * w, beta: 0, dk, 3 * w
        )
      }
    }
  }
}

/// row ← softmax(row) over its first `count` elements; returns the logarithm of the sum of exponentials.
@inline(__always)
func softmaxRow<S: Scalar>(_ row: UnsafeMutablePointer<S>, _ count: Int) -> S {
  var largest = row[0]
  for j in 1..<max(count, 1) { largest = row[j] > largest ? row[j] : largest }
  var sum: S = 0
  for j in 0..<count {
    let value = S.exponential(row[j] - largest)
    row[j] = value
    sum = Relaxed.sum(sum, value)
  }
  let share = 1 / sum
  for j in 0..<count { row[j] *= share }
  return largest + S.log(sum)
}
