internal import RealModule

/// The mean μ and 1/√(σ² + ε) of every row, [n] each, which layer norm keeps for its backward.
public typealias RowStatistics<S: Scalar> = (mean: Tensor<S>, reciprocal: Tensor<S>)

/// y[i, :] = (x[i, :] − μ_i) / √(σ²_i + ε) · weight + bias, with the biased variance of the row, for x, y [n, w] and
/// weight, bias [w] (Ba, Kiros, Hinton: Layer Normalization, 2016). Writes `statistics`. It passes over each row twice,
/// because the difference of two large sums would lose digits.
@specialized(where S == Float) @specialized(where S == Double)
public func layerNorm<S: Scalar>(
  _ x: Tensor<S>, weight: Tensor<S>, bias: Tensor<S>, epsilon: Double = 1e-5, into y: MatrixOperand<S>,
  statistics: RowStatistics<S>
) {
  let (n, w) = (x.rows, x.columns)
  precondition(
    y.shape.count == x.count && weight.count == w && bias.count == w && statistics.mean.count == n
      && statistics.reciprocal.count == n,
    "layer norm of \(x.shape) with \(weight.shape), \(bias.shape), rows \(statistics.mean.shape)")
  switch y {
  case .fp32: layerNorm(x, weight, bias, S(epsilon), into: FP32Elements(y), statistics)
  case .bf16: layerNorm(x, weight, bias, S(epsilon), into: BFloat16Elements(y), statistics)
  }
}

@inline(__always)
private func layerNorm<E: Elements>(
  _ x: Tensor<E.Number>, _ weight: Tensor<E.Number>, _ bias: Tensor<E.Number>, _ epsilon: E.Number, into y: E,
  _ statistics: RowStatistics<E.Number>
) {
  let (n, w, p, g, b) = (x.rows, x.columns, x.pointer, weight.pointer, bias.pointer)
  let (m, r) = (statistics.mean.pointer, statistics.reciprocal.pointer)
  let share = 1 / E.Number(w)
  Threads.split(n, grain: 32) { _, rows in
    for i in rows {
      let (source, target) = (p + i * w, y.advanced(by: i * w))
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
      (m[i], r[i]) = (mu, scale)
    }
  }
}

/// Adds to dx [n, w], dweight [w] and dbias [w], given dy [n, w] and what `layerNorm` read and wrote.
///
/// With x̂ = (x − μ)·r and h = dy·weight: dx += r (h − mean(h) − x̂ mean(h x̂)); dweight += Σ_i dy x̂; dbias += Σ_i dy.
@specialized(where S == Float) @specialized(where S == Double)
public func layerNormBackward<S: Scalar>(
  _ dy: Tensor<S>, x: Tensor<S>, weight: Tensor<S>, statistics: RowStatistics<S>, dx: Tensor<S>, dweight: Tensor<S>,
  dbias: Tensor<S>
) {
  let (n, w) = (x.rows, x.columns)
  precondition(
    dy.count == x.count && dx.count == x.count && weight.count == w && dweight.count == w && dbias.count == w,
    "layer norm backward of \(dy.shape), \(x.shape) into \(dx.shape), \(dweight.shape), \(dbias.shape)")
  let (d, p, g, q, dg, db) = (dy.pointer, x.pointer, weight.pointer, dx.pointer, dweight.pointer, dbias.pointer)
  let (m, r) = (statistics.mean.pointer, statistics.reciprocal.pointer)
  let (share, parts) = (1 / S(w), Threads.parts(n, grain: 64))
  withPartialSums(of: S.self, count: parts * 2 * w) { partial in
    Threads.split(n, grain: 64) { part, rows in
      let (sumWeight, sumBias) = (partial + part * 2 * w, partial + part * 2 * w + w)
      for i in rows {
        let (dRow, xRow, out, mu, scale) = (d + i * w, p + i * w, q + i * w, m[i], r[i])
        var (sumH, sumHX): (S, S) = (0, 0)
        for j in 0..<w {
          let h = dRow[j] * g[j]
          let hat = (xRow[j] - mu) * scale
          sumH = Relaxed.sum(sumH, h)
          sumHX = Relaxed.multiplyAdd(h, hat, sumHX)
          sumWeight[j] = sumWeight[j].addingProduct(dRow[j], hat)
          sumBias[j] += dRow[j]
        }
        let (a, c) = (sumH * share, sumHX * share)
        for j in 0..<w { out[j] += scale * (dRow[j] * g[j] - a - (xRow[j] - mu) * scale * c) }
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

/// y_i = x_i / ‖x_i‖ for x, y [n, w]; writes 1/‖x_i‖ to `reciprocal` [n]. A row of zeros stays zero, with reciprocal 0.
@specialized(where S == Float) @specialized(where S == Double)
public func normalizeRows<S: Scalar>(_ x: Tensor<S>, into y: Tensor<S>, reciprocal: Tensor<S>) {
  let (n, d, p, q, r) = (x.rows, x.columns, x.pointer, y.pointer, reciprocal.pointer)
  precondition(y.count == x.count && reciprocal.count == n, "\(x.shape) into \(y.shape), \(reciprocal.shape)")
  for i in 0..<n {
    let (source, target) = (p + i * d, q + i * d)
    var squares = 0.0
    for j in 0..<d { squares = Relaxed.multiplyAdd(Double(source[j]), Double(source[j]), squares) }
    let factor = squares > 0 ? S(1 / squares.squareRoot()) : 0
    for j in 0..<d { target[j] = source[j] * factor }
    r[i] = factor
  }
}

/// dy_i ← (dy_i − y_i ⟨y_i, dy_i⟩) / ‖x_i‖, in place: the gradient of x.
@specialized(where S == Float) @specialized(where S == Double)
public func normalizeRowsBackward<S: Scalar>(_ dy: Tensor<S>, y: Tensor<S>, reciprocal: Tensor<S>) {
  let (n, d, p, q, r) = (y.rows, y.columns, dy.pointer, y.pointer, reciprocal.pointer)
  precondition(dy.count == y.count && reciprocal.count == n, "\(dy.shape) with \(y.shape), \(reciprocal.shape)")
  Threads.split(n, grain: 64) { _, range in
    for i in range {
      let (gradient, unit) = (p + i * d, q + i * d)
      var along: S = 0
      for j in 0..<d { along = Relaxed.multiplyAdd(gradient[j], unit[j], along) }
      for j in 0..<d { gradient[j] = (gradient[j] - unit[j] * along) * r[i] }
    }
  }
}
