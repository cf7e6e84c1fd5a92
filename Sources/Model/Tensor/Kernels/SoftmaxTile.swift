internal import RealModule

// Tiles of similarities c_ij = ⟨a_i, b_j⟩: b rows of the local batch, t consecutive columns of the global batch. Logits
// are z_ij = scale · c_ij, so that one tile serves any scale. A softmax belongs to an anchor, a row or a column.

/// Folds a tile of logits z = scale · c, [b, t], into each row's running maximum m and sum Σ e^(z − m), [b] each.
/// Before the first tile m = −∞ and the sum is 0. Row i leaves out its column `leavingOut + i`, if the tile has it.
@specialized(where S == Float) @specialized(where S == Double)
public func foldLogSumExp<S: Scalar>(
  _ c: Tensor<S>, scale: S, maximum: Tensor<S>, sum: Tensor<S>, leavingOut diagonal: Int? = nil
) {
  let (b, t, p, m, s) = (c.rows, c.columns, c.pointer, maximum.pointer, sum.pointer)
  precondition(maximum.count == b && sum.count == b, "\(c.shape) into \(maximum.shape), \(sum.shape)")
  Threads.split(b, grain: 8) { _, rows in
    for i in rows {
      let row = p + i * t
      let (before, after) = candidates(t, without: diagonal.map { $0 + i })
      var largest = m[i]
      for half in 0..<2 { largest = max(largest, scaledLargest(row, half == 0 ? before : after, scale: scale)) }
      var total: S = 0
      for half in 0..<2 {
        for j in half == 0 ? before : after { total = Relaxed.sum(total, S.exponential(scale * row[j] - largest)) }
      }
      s[i] = (s[i] == 0 ? 0 : s[i] * S.exponential(m[i] - largest)) + total
      m[i] = largest
    }
  }
}

/// Returns the largest of scale · row over a part of it, for a scale above 0; −∞ for an empty part.
@inline(__always) func scaledLargest<S: Scalar>(_ row: Pointer<S>, _ part: Range<Int>, scale: S) -> S {
  part.isEmpty ? -.infinity : scale * S.largest(row + part.lowerBound, part.count)
}

/// lse_i = m_i + ln sum_i, which replaces the maximum.
public func finishLogSumExp<S: Scalar>(maximum: Tensor<S>, sum: Tensor<S>) {
  for i in 0..<maximum.count { maximum[i] += S.log(sum[i]) }
}

/// The anchors of a tile: its rows or its columns.
public enum Anchors: Sendable { case rows, columns }

/// The softmax P of z = scale · c over the candidates of each anchor, for a tile of products c [b, t].
public struct TileSoftmax<S: Scalar> {
  let products: Tensor<S>
  let scale: S
  /// The anchors' log-sum-exps: [b] if they are the rows, [t] if they are the columns.
  let lse: Tensor<S>
  let anchors: Anchors

  public init(_ products: Tensor<S>, scale: S, lse: Tensor<S>, of anchors: Anchors) {
    let count = anchors == .rows ? products.rows : products.columns
    precondition(lse.count == count, "\(lse.shape) for \(products.shape)")
    (self.products, self.scale, self.lse, self.anchors) = (products, scale, lse, anchors)
  }
}

/// c ← P − 1, in place, where 1 stands in each row's own column, `diagonal + i` of the tile: a softmax less its target.
@specialized(where S == Float) @specialized(where S == Double)
public func softmaxResidual<S: Scalar>(_ softmax: TileSoftmax<S>, diagonal: Int) {
  let (c, scale, anchors) = (softmax.products, softmax.scale, softmax.anchors)
  let (b, t, p, l) = (c.rows, c.columns, c.pointer, softmax.lse.pointer)
  for i in 0..<b {
    let row = p + i * t
    for j in 0..<t { row[j] = S.exponential(scale * row[j] - (anchors == .rows ? l[i] : l[j])) }
    let own = diagonal + i
    if own >= 0 && own < t { row[own] -= 1 }
  }
}

/// x ← dz, in place, with dz_ij = P_ij (factor · x_ij − σ), where the softmax's anchors have the numbers `sigma`, of as
/// many as `lse`. Adds Σ_j dz_ij c_ij to `along` [b].
@specialized(where S == Float) @specialized(where S == Double)
public func softmaxBackward<S: Scalar>(
  _ x: Tensor<S>, factor: S, _ softmax: TileSoftmax<S>, sigma: Tensor<S>, along: Tensor<S>
) {
  let (c, scale, anchors) = (softmax.products, softmax.scale, softmax.anchors)
  let (b, t, p, q, l, s) = (c.rows, c.columns, x.pointer, c.pointer, softmax.lse.pointer, sigma.pointer)
  precondition(x.count == c.count && sigma.count == softmax.lse.count && along.count == b, "\(x.shape), \(c.shape)")
  for i in 0..<b {
    let (row, product) = (p + i * t, q + i * t)
    var total: S = 0
    if anchors == .rows {
      for j in 0..<t {
        let dz = S.exponential(scale * product[j] - l[i]) * (factor * row[j] - s[i])
        total = Relaxed.multiplyAdd(dz, product[j], total)
        row[j] = dz
      }
    } else {
      for j in 0..<t {
        let dz = S.exponential(scale * product[j] - l[j]) * (factor * row[j] - s[j])
        total = Relaxed.multiplyAdd(dz, product[j], total)
        row[j] = dz
      }
    }
    along.pointer[i] += total
  }
}

/// y_ij ← ln( e^y_ij + P_ij ).
///
/// Called from y = −∞ once for each teacher, it makes the logarithm of the sum of their softmaxes, whose own softmax is
/// the teachers' mean, without underflow for any pair.
@specialized(where S == Float) @specialized(where S == Double)
public func addProbability<S: Scalar>(_ softmax: TileSoftmax<S>, to y: Tensor<S>) {
  let (r, scale, anchors) = (softmax.products, softmax.scale, softmax.anchors)
  let (b, t, p, q, m) = (r.rows, r.columns, r.pointer, y.pointer, softmax.lse.pointer)
  precondition(y.count == r.count, "\(r.shape) into \(y.shape)")
  Threads.forEach(b, grain: 8) { i in
    let (product, sum) = (p + i * t, q + i * t)
    for j in 0..<t {
      let (old, new) = (sum[j], scale * product[j] - (anchors == .rows ? m[i] : m[j]))
      let (low, high) = old < new ? (old, new) : (new, old)
      sum[j] = high + S.log(onePlus: S.exponential(low - high))
    }
  }
}

/// c ← G, in place, for cross entropies whose target is an anchor's own partner (Radford et al., 2021).
///
/// G_ij = a_i (e^(z_ij − rowLSE_i) − [j is i's own]) + w_j (e^(z_ij − columnLSE_j) − [j is i's own]) with z = scale ·
/// c, the gradient with respect to z of Σ a_i ℓ_i over rows [b] and Σ w_j ℓ_j over columns [t] as anchors; without
/// columns the second part is left out. Row i's own column is `diagonal + i`, counted from the tile's first, and may
/// lie outside it. Adds Σ_j G_ij c_ij to `along`, whose sum is the gradient of the scale.
@specialized(where S == Float) @specialized(where S == Double)
public func contrastiveGradient<S: Scalar>(
  _ c: Tensor<S>, scale: S, rowLSE: Tensor<S>, rowWeight: Tensor<S>,
  columns: (lse: Tensor<S>, weight: Tensor<S>)?, diagonal: Int, along: Tensor<S>
) {
  let (b, t) = (c.rows, c.columns)
  precondition(
    rowLSE.count == b && rowWeight.count == b && along.count == b, "\(c.shape) with \(rowLSE.shape), \(along.shape)")
  precondition(
    columns.map { $0.lse.count == t && $0.weight.count == t } ?? true, "vectors of \(t) for the columns of \(c.shape)")
  let (p, rows, weights, sums) = (c.pointer, rowLSE.pointer, rowWeight.pointer, along.pointer)
  let (columnSums, columnWeights) = (columns?.lse.pointer, columns?.weight.pointer)
  Threads.split(b, grain: 8) { _, range in
    for i in range {
      let (row, lse, a, own) = (p + i * t, rows[i], weights[i], diagonal + i)
      let isHere = own >= 0 && own < t
      let product: S = isHere ? row[own] : 0
      var total: S = 0
      if let columnSums, let columnWeights {
        for j in 0..<t {
          let z = scale * row[j]
          let g = a * S.exponential(z - lse) + columnWeights[j] * S.exponential(z - columnSums[j])
          total = Relaxed.multiplyAdd(g, row[j], total)
          row[j] = g
        }
      } else {
        for j in 0..<t {
          let g = a * S.exponential(scale * row[j] - lse)
          total = Relaxed.multiplyAdd(g, row[j], total)
          row[j] = g
        }
      }
      if isHere {
        let target = a + (columnWeights.map { $0[own] } ?? 0)
        row[own] -= target
        total -= target * product
      }
      sums[i] += total
    }
  }
}

/// c ← G, in place, for the sigmoid loss of pairs (Zhai et al.: Sigmoid Loss for Language Image Pre-Training, 2023).
///
/// With z = scale · c + bias and y_ij = 1 in row i's own column (as above), −1 elsewhere, ℓ_ij = ln(1 + e^(−y_ij
/// z_ij)), and G_ij = weight · ∂ℓ_ij/∂z_ij = −weight · y_ij σ(−y_ij z_ij). Adds Σ_j G_ij c_ij to `along`, Σ_j G_ij to
/// `slopes` and, if given, Σ_j ℓ_ij to `losses`, [b] each, which sum to the gradients of scale and bias and the value.
@specialized(where S == Float) @specialized(where S == Double)
public func sigmoidGradient<S: Scalar>(
  _ c: Tensor<S>, scale: S, bias: S, weight: S, diagonal: Int,
  addingTo rows: (along: Tensor<S>, slopes: Tensor<S>, losses: Tensor<S>?)
) {
  let (along, slopes, losses) = rows
  let (b, t) = (c.rows, c.columns)
  precondition(along.count == b && slopes.count == b, "\(c.shape) with \(along.shape), \(slopes.shape)")
  precondition(losses.map { $0.count == b } ?? true, "a vector of \(b) for the rows of \(c.shape)")
  let (p, products, sums, values) = (c.pointer, along.pointer, slopes.pointer, losses?.pointer)
  Threads.split(b, grain: 8) { _, range in
    for i in range {
      let (row, own) = (p + i * t, diagonal + i)
      if let values {
        // In Double, because thousands of negatives may have next to no loss beside one positive.
        var total = 0.0
        for j in 0..<t {
          let z = scale * row[j] + bias
          total += Double(softplus(j == own ? -z : z))
        }
        values[i] += S(total)
      }
      var (product, total): (S, S) = (0, 0)
      for j in 0..<t {
        let z = scale * row[j] + bias
        let x = j == own ? -z : z
        // σ(x), from an exponential that cannot overflow.
        let power = S.exponential(-abs(x))
        let share = weight / (1 + power)
        let size = x < 0 ? power * share : share
        let g = j == own ? -size : size
        product = Relaxed.multiplyAdd(g, row[j], product)
        total = Relaxed.sum(total, g)
        row[j] = g
      }
      products[i] += product
      sums[i] += total
    }
  }
}

/// ln(1 + eˣ), which cannot overflow; NaN of NaN.
@inline(__always)
private func softplus<S: Scalar>(_ x: S) -> S { (x > 0 ? x : 0) + S.log(onePlus: S.exponential(-abs(x))) }
