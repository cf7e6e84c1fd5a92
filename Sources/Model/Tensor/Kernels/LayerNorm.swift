internal import RealModule

// n rows, w columns.

/// y[i, :] = (x[i, :] − μ_i) / √(σ²_i + ε) · weight + bias, with the biased variance of the row.
///
/// Two passes over a row that is in the cache: the mean first, then the squared distances from it, for the difference
/// of two large sums would lose digits. Keeps μ and 1/√(σ² + ε) of every row for backward.
@specialized(where S == Float)
@specialized(where S == Double)
public func layerNorm<S: Scalar>(
  _ x: Tensor<S>, weight: Tensor<S>, bias: Tensor<S>, epsilon: Double = 1e-5, into y: Operand<S>,
  mean: Tensor<S>, reciprocal: Tensor<S>
) {
  let (n, w) = (x.rows, x.columns)
  precondition(
    y.shape.count == x.count && weight.count == w && bias.count == w && mean.count == n && reciprocal.count == n,
    "layer norm of \(x.shape) with \(weight.shape), \(bias.shape), rows \(mean.shape), \(reciprocal.shape)")
  let (p, g, b, m, r) = (x.pointer, weight.pointer, bias.pointer, mean.pointer, reciprocal.pointer)
  switch y {
  case .exact(let y): normalizeRows(p, n, w, g, b, S(epsilon), into: ExactElements(y), m, r)
  case .rounded(let y): normalizeRows(p, n, w, g, b, S(epsilon), into: RoundedElements(y), m, r)
  }
}

@inline(__always)
private func normalizeRows<E: Elements>(
  _ p: UnsafeMutablePointer<E.Number>, _ n: Int, _ w: Int, _ g: UnsafeMutablePointer<E.Number>,
  _ b: UnsafeMutablePointer<E.Number>, _ epsilon: E.Number, into y: E, _ m: UnsafeMutablePointer<E.Number>,
  _ r: UnsafeMutablePointer<E.Number>
) {
  let share = 1 / E.Number(w)
  Threads.split(n, grain: 32) { _, rows in
    for i in rows {
      let source = p + i * w
      let target = y.advanced(by: i * w)
      var sum: E.Number = 0
      for j in 0..<w { sum = Relaxed.sum(sum, source[j]) }
      let mu = sum * share
      var squares: E.Number = 0
      for j in 0..<w {
        let d = source[j] - mu
        squares = Relaxed.multiplyAdd(d, d, squares)
      }
      let scale = 1 / E.Number.sqrt(squares * share + epsilon)
      for j in 0..<w { target[j] = b[j].addingProduct((source[j] - mu) * scale, g[j]) }
      m[i] = mu
      r[i] = scale
    }
  }
}

/// Adds to dx, dweight and dbias.
///
/// With x̂ = (x − μ)·r and h = dy·weight: dx += r (h − mean(h) − x̂ mean(h x̂)); dweight += Σ_i dy x̂; dbias += Σ_i dy.
@specialized(where S == Float)
@specialized(where S == Double)
public func layerNormBackward<S: Scalar>(
  _ dy: Tensor<S>, x: Tensor<S>, weight: Tensor<S>, mean: Tensor<S>, reciprocal: Tensor<S>,
  dx: Tensor<S>, dweight: Tensor<S>, dbias: Tensor<S>
) {
  let (n, w) = (x.rows, x.columns)
  precondition(
    dy.count == x.count && dx.count == x.count && weight.count == w && dweight.count == w && dbias.count == w,
    "layer norm backward of \(dy.shape), \(x.shape) into \(dx.shape), \(dweight.shape), \(dbias.shape)")
  let (d, p, g, m, r) = (dy.pointer, x.pointer, weight.pointer, mean.pointer, reciprocal.pointer)
  let (q, dg, db) = (dx.pointer, dweight.pointer, dbias.pointer)
  let share = 1 / S(w)
  let parts = Threads.parts(n, grain: 64)
  withPartialSums(of: S.self, count: parts * 2 * w) { partial in
    Threads.split(n, grain: 64) { part, rows in
      let sumWeight = partial + part * 2 * w
      let sumBias = sumWeight + w
      for i in rows {
        let (dRow, xRow, out) = (d + i * w, p + i * w, q + i * w)
        let (mu, scale) = (m[i], r[i])
        var sumH: S = 0
        var sumHX: S = 0
        for j in 0..<w {
          let h = dRow[j] * g[j]
          let hat = (xRow[j] - mu) * scale
          sumH = Relaxed.sum(sumH, h)
          sumHX = Relaxed.multiplyAdd(h, hat, sumHX)
          sumWeight[j] = sumWeight[j].addingProduct(dRow[j], hat)
          sumBias[j] += dRow[j]
        }
        let (a, c) = (sumH * share, sumHX * share)
        for j in 0..<w {
          let hat = (xRow[j] - mu) * scale
          out[j] += scale * (dRow[j] * g[j] - a - hat * c)
        }
      }
    }
    for part in 0..<parts {
      let sums = partial + part * 2 * w
      for j in 0..<w {
        dg[j] += sums[j]
        db[j] += sums[w + j]
      }
    }
  }
}
