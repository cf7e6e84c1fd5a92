internal import RealModule

// b pictures, t tokens of c channels each, heads of d = c / heads columns.
//
// Only the first token asks, so keys and values of all tokens need not be made: q · (K x + k) = (Kᵀ q) · x + q · k,
// whose last part the softmax takes away, and Σ p (V x + v) = V (Σ p x) + v. What is left is a fiftieth of the work.

/// y[p, :] = V (Σ_t p_t x_t) + v by heads, with p = softmax over tokens of q · K x / √d.
///
/// - Parameters:
///   - x: [b · t, c], the tokens.
///   - q: [b, c], what each picture asks.
///   - reach: [b, heads · c], kept for backward: Kᵀ q / √d.
///   - probabilities: [b, heads · t], kept for backward.
///   - mixed: [b, heads · c], kept for backward: Σ p x.
///   - y: [b, c].
@specialized(where S == Float)
@specialized(where S == Double)
public func attentionPool<S: Scalar>(
  _ x: Tensor<S>, q: Tensor<S>, key: Tensor<S>, value: Tensor<S>, valueBias: Tensor<S>, heads: Int, reach: Tensor<S>,
  probabilities: Tensor<S>, mixed: Tensor<S>, into y: Tensor<S>
) {
  let (b, c) = (q.rows, q.columns)
  guard b > 0 else { return }
  let (t, d) = (x.rows / b, c / heads)
  precondition(
    x.rows == b * t && x.columns == c && heads * d == c && y.count == q.count && reach.count == b * heads * c
      && mixed.count == b * heads * c && probabilities.count == b * heads * t,
    "attention pool of \(x.shape) asked by \(q.shape) with \(heads) heads")
  let scale = 1 / S.sqrt(S(d))
  let wide = heads * c
  let (tokens, ask, k, v) = (x.pointer, q.pointer, key.pointer, value.pointer)
  let (r, s, p) = (reach.pointer, mixed.pointer, probabilities.pointer)
  broadcast(valueBias, into: y)
  Profile.measure(\.attention) {
    for head in 0..<heads {
      S.multiply(
        transposeA: false, transposeB: false, b, c, d, alpha: scale, ask + head * d, c, k + head * d * c, c, beta: 0,
        r + head * c, wide)
    }
    for picture in 0..<b {
      let (rows, scores) = (tokens + picture * t * c, p + picture * heads * t)
      S.multiply(
        transposeA: false, transposeB: true, heads, t, c, alpha: 1, r + picture * wide, c, rows, c, beta: 0, scores, t)
      for head in 0..<heads { _ = softmaxRow(scores + head * t, t, t, scale: 1) }
      S.multiply(
        transposeA: false, transposeB: false, heads, c, t, alpha: 1, scores, t, rows, c, beta: 0, s + picture * wide, c)
    }
    for head in 0..<heads {
      S.multiply(
        transposeA: false, transposeB: true, b, d, c, alpha: 1, s + head * c, wide, v + head * d * c, c, beta: 1,
        y.pointer + head * d, c)
    }
  }
}

/// Writes dx [b · t, c] and dq [b, c]; adds to the gradients of key, value and value bias. The key bias has none.
///
/// `scratch` holds gradients of `mixed` (then of `reach`) and of the probabilities: b · heads · (c + t) scalars.
@specialized(where S == Float)
@specialized(where S == Double)
public func attentionPoolBackward<S: Scalar>(
  _ dy: Tensor<S>, x: Tensor<S>, q: Tensor<S>, key: Tensor<S>, value: Tensor<S>, heads: Int, reach: Tensor<S>,
  probabilities: Tensor<S>, mixed: Tensor<S>, dx: Tensor<S>, dq: Tensor<S>, dkey: Tensor<S>, dvalue: Tensor<S>,
  dvalueBias: Tensor<S>, scratch: Buffer<S>
) {
  let (b, c) = (q.rows, q.columns)
  guard b > 0 else { return }
  let (t, d) = (x.rows / b, c / heads)
  precondition(
    x.rows == b * t && dx.count == x.count && dy.count == q.count && dq.count == q.count
      && reach.count == b * heads * c && mixed.count == reach.count && probabilities.count == b * heads * t
      && dkey.count == c * c && dvalue.count == c * c, "attention pool backward of \(dy.shape) into \(dx.shape)")
  let scale = 1 / S.sqrt(S(d))
  let wide = heads * c
  addColumnSums(of: .exact(dy), to: dvalueBias)
  let gradients = scratch.tensor(Shape(b * heads * (c + t)))
  let (ds, dp) = (gradients.pointer, gradients.pointer + b * wide)
  let (tokens, ask, k, v, out) = (x.pointer, q.pointer, key.pointer, value.pointer, dy.pointer)
  let (r, s, p) = (reach.pointer, mixed.pointer, probabilities.pointer)
  let (dk, dv) = (dkey.pointer, dvalue.pointer)
  Profile.measure(\.attention) {
    for head in 0..<heads {
      S.multiply(
        transposeA: true, transposeB: false, d, c, b, alpha: 1, out + head * d, c, s + head * c, wide, beta: 1,
        dv + head * d * c, c)
      S.multiply(
        transposeA: false, transposeB: false, b, c, d, alpha: 1, out + head * d, c, v + head * d * c, c, beta: 0,
        ds + head * c, wide)
    }
    for picture in 0..<b {
      let (rows, drows) = (tokens + picture * t * c, dx.pointer + picture * t * c)
      let (chance, slope) = (p + picture * heads * t, dp + picture * heads * t)
      let (around, reached) = (ds + picture * wide, r + picture * wide)
      S.multiply(
        transposeA: false, transposeB: true, heads, t, c, alpha: 1, around, c, rows, c, beta: 0, slope, t)
      S.multiply(
        transposeA: true, transposeB: false, t, c, heads, alpha: 1, chance, t, around, c, beta: 0, drows, c)
      for head in 0..<heads {
        let (probability, gradient) = (chance + head * t, slope + head * t)
        var along: S = 0
        for j in 0..<t { along = Relaxed.multiplyAdd(probability[j], gradient[j], along) }
        for j in 0..<t { gradient[j] = probability[j] * (gradient[j] - along) }
      }
      S.multiply(
        transposeA: true, transposeB: false, t, c, heads, alpha: 1, slope, t, reached, c, beta: 1, drows, c)
      // The gradient of `mixed` is used up; that of `reach` takes its place.
      S.multiply(
        transposeA: false, transposeB: false, heads, c, t, alpha: 1, slope, t, rows, c, beta: 0, around, c)
    }
    for head in 0..<heads {
      S.multiply(
        transposeA: true, transposeB: false, d, c, b, alpha: scale, ask + head * d, c, ds + head * c, wide, beta: 1,
        dk + head * d * c, c)
      S.multiply(
        transposeA: false, transposeB: true, b, d, c, alpha: scale, ds + head * c, wide, k + head * d * c, c, beta: 0,
        dq.pointer + head * d, c)
    }
  }
}

/// tokens[p, 0, :] = mean of the points of picture p; tokens[p, 1 + i, :] = point i; plus positions [1 + points, c].
@specialized(where S == Float)
@specialized(where S == Double)
public func poolTokens<S: Scalar>(_ x: Tensor<S>, pictures b: Int, positions: Tensor<S>, into tokens: Tensor<S>) {
  let (c, t) = (x.columns, positions.rows)
  let points = t - 1
  precondition(
    x.rows == b * points && positions.columns == c && tokens.rows == b * t && tokens.columns == c,
    "tokens of \(x.shape) with positions \(positions.shape) into \(tokens.shape)")
  let (source, place, target) = (x.pointer, positions.pointer, tokens.pointer)
  let share = 1 / S(points)
  Threads.split(b) { _, pictures in
    for picture in pictures {
      let (from, mean) = (source + picture * points * c, target + picture * t * c)
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
}

/// Writes dx and adds to dpositions.
@specialized(where S == Float)
@specialized(where S == Double)
public func poolTokensBackward<S: Scalar>(
  _ dtokens: Tensor<S>, pictures b: Int, dpositions: Tensor<S>, into dx: Tensor<S>
) {
  let (c, t) = (dx.columns, dpositions.rows)
  let points = t - 1
  precondition(
    dx.rows == b * points && dpositions.columns == c && dtokens.rows == b * t && dtokens.columns == c,
    "tokens' gradient \(dtokens.shape) into \(dx.shape), \(dpositions.shape)")
  let (source, place, target) = (dtokens.pointer, dpositions.pointer, dx.pointer)
  let share = 1 / S(points)
  for picture in 0..<b {
    let mean = source + picture * t * c
    for j in 0..<c { place[j] += mean[j] }
    for point in 0..<points {
      let (from, to) = (mean + (point + 1) * c, target + (picture * points + point) * c)
      let position = place + (point + 1) * c
      for j in 0..<c {
        position[j] += from[j]
        to[j] = from[j].addingProduct(mean[j], share)
      }
    }
  }
}
