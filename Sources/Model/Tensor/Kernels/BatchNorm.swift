internal import RealModule

// n rows (points of all images) of c columns (channels) in one precision (Ioffe, Szegedy: Batch Normalization, 2015).

/// The rows of a block: so few that it stays in the cache while it is read twice, and that sums in Float keep digits.
func batchNormBlock(_ c: Int) -> Int { min(max((1 << 16) / max(c, 1), 8), 128) }

/// mean[j] = mean of column j, squares[j] = Σ_i (x[i, j] − mean[j])² for x [n, c]; both are 0 if there are no rows.
///
/// Each block of rows is read twice: for its mean, then for the distances from it, whose sum corrects that mean's
/// rounding. Blocks are merged in Double (Chan, Golub, LeVeque: Updating Formulae and a Pairwise Algorithm for
/// Computing Sample Variances, 1979), so neither a mean far from zero nor many rows cost digits.
@specialized(where S == Float) @specialized(where S == Double)
public func columnMoments<S: Scalar>(_ x: MatrixOperand<S>, mean: Tensor<Double>, squares: Tensor<Double>) {
  let (n, c) = (x.rows, x.columns)
  precondition(mean.count == c && squares.count == c, "moments of \(x.shape) into \(mean.shape), \(squares.shape)")
  let (parts, height, m, q) = (Threads.parts(n, grain: 256), batchNormBlock(c), mean.pointer, squares.pointer)
  withPartialSums(of: Double.self, count: parts * 2 * c) { partial in
    withPartialSums(of: S.self, count: parts * 3 * c) { scratch in
      Threads.split(n, grain: 256) { part, rows in
        let (mu, square, center) = (partial + part * 2 * c, partial + (part * 2 + 1) * c, scratch + part * 3 * c)
        let (shift, squares) = (center + c, center + 2 * c)
        for start in stride(from: rows.lowerBound, to: rows.upperBound, by: height) {
          let end = min(start + height, rows.upperBound)
          switch x {
          case .fp32: blockMoments(FP32Elements(x), c, start..<end, center, shift, squares)
          case .bf16: blockMoments(BFloat16Elements(x), c, start..<end, center, shift, squares)
          }
          let count = Double(end - start)
          merge(
            mu, square, before: Double(start - rows.lowerBound), c, count: count,
            { Double(center[$0]) + Double(shift[$0]) / count },
            { Double(squares[$0]) - Double(shift[$0]) * Double(shift[$0]) / count })
        }
      }
    }
    for j in 0..<c { (m[j], q[j]) = (0, 0) }
    var before = 0
    for part in 0..<parts {
      let count = (part + 1) * n / parts - part * n / parts
      let (mu, square) = (partial + part * 2 * c, partial + part * 2 * c + c)
      merge(m, q, before: Double(before), c, count: Double(count), { mu[$0] }, { square[$0] })
      before += count
    }
  }
}

/// Writes the mean of these rows, and the sums of distances and of squared distances from it, all [c].
private func blockMoments<E: Elements>(
  _ x: E, _ c: Int, _ rows: Range<Int>, _ center: Pointer<E.Number>,
  _ shift: Pointer<E.Number>, _ squares: Pointer<E.Number>
) {
  if E.Number.self == Float.self { return panelMoments(x, c, rows, floats(center), floats(shift), floats(squares)) }
  let share = 1 / E.Number(rows.count)
  for j in 0..<c {
    (center[j], shift[j], squares[j]) = (0, 0, 0)
    for i in rows { center[j] += x[i * c + j] }
    center[j] *= share
    for i in rows {
      let distance = x[i * c + j] - center[j]
      shift[j] += distance
      squares[j] = squares[j].addingProduct(distance, distance)
    }
  }
}

/// Merges the moments of `before` rows with those of `count` more.
@inline(__always)
private func merge(
  _ mean: Pointer<Double>, _ squares: Pointer<Double>, before: Double, _ c: Int,
  count: Double, _ otherMean: (Int) -> Double, _ otherSquares: (Int) -> Double
) {
  guard count > 0 else { return }
  let share = count / (before + count)
  for j in 0..<c {
    let delta = otherMean(j) - mean[j]
    mean[j] += delta * share
    squares[j] += otherSquares(j) + delta * delta * before * share
  }
}

/// The vectors of a batch norm over c columns, [c] each: it computes (z − mean) · scale + bias.
public struct BatchNormVectors<S: Scalar> {
  let mean: Tensor<S>
  let scale: Tensor<S>
  let bias: Tensor<S>

  public init(mean: Tensor<S>, scale: Tensor<S>, bias: Tensor<S>) {
    precondition(mean.count == scale.count && bias.count == scale.count, "\(mean.shape), \(scale.shape), \(bias.shape)")
    (self.mean, self.scale, self.bias) = (mean, scale, bias)
  }

  var pointers: (Pointer<S>, Pointer<S>, Pointer<S>) { (mean.pointer, scale.pointer, bias.pointer) }
}

/// y = f((z − mean) · scale + bias + residual), column by column, where f is max(·, 0) with `relu` and the identity
/// without. z, residual and y are [n, c] in one precision; y may be z or the residual. Threads take `grain` rows or
/// more.
@specialized(where S == Float) @specialized(where S == Double)
public func batchNorm<S: Scalar>(
  _ z: MatrixOperand<S>, _ vectors: BatchNormVectors<S>, adding residual: MatrixOperand<S>? = nil, relu: Bool,
  into y: MatrixOperand<S>, grain: Int = 64
) {
  precondition(
    y.shape.count == z.shape.count && vectors.scale.count == z.columns
      && (residual.map { $0.shape.count == z.shape.count } ?? true),
    "batch norm of \(z.shape) with \(vectors.scale.shape) into \(y.shape)")
  let rows = (count: y.rows, grain: grain)
  switch z {
  case .fp32: norm(FP32Elements(z), residual.map(FP32Elements.init), vectors, relu, rows, into: FP32Elements(y))
  case .bf16:
    norm(BFloat16Elements(z), residual.map(BFloat16Elements.init), vectors, relu, rows, into: BFloat16Elements(y))
  }
}

private func norm<E: Elements>(
  _ z: E, _ residual: E?, _ vectors: BatchNormVectors<E.Number>, _ relu: Bool, _ rows: (count: Int, grain: Int),
  into y: E
) {
  let c = vectors.scale.count
  Threads.forEach(rows.count, grain: rows.grain) { i in
    let (from, to) = (z.advanced(by: i * c), y.advanced(by: i * c))
    // If two matrices are one, the loop must know it, or it is compiled for memory that may overlap, which is slow.
    if let residual {
      let other = residual.advanced(by: i * c)
      if other.isSame(as: to) { normRow(from, to, vectors, relu, to) } else { normRow(from, other, vectors, relu, to) }
    } else if from.isSame(as: to) {
      normRow(to, nil, vectors, relu, to)
    } else {
      normRow(from, nil, vectors, relu, to)
    }
  }
}

@inline(__always)
private func normRow<E: Elements>(
  _ source: E, _ other: E?, _ vectors: BatchNormVectors<E.Number>, _ relu: Bool, _ target: E
) {
  let (c, (m, a, b)) = (vectors.scale.count, vectors.pointers)
  if let other {
    if relu {
      for j in 0..<c { target[j] = rectified(b[j].addingProduct(source[j] - m[j], a[j]) + other[j]) }
    } else {
      for j in 0..<c { target[j] = b[j].addingProduct(source[j] - m[j], a[j]) + other[j] }
    }
  } else if relu {
    for j in 0..<c { target[j] = rectified(b[j].addingProduct(source[j] - m[j], a[j])) }
  } else {
    for j in 0..<c { target[j] = b[j].addingProduct(source[j] - m[j], a[j]) }
  }
}

@inline(__always) private func rectified<S: Scalar>(_ x: S) -> S { x < 0 ? 0 : x }

/// The part of the gradient of `batchNorm`'s output that passes its activation.
public enum BatchNormMask<S: Scalar> {
  /// Everything passes: there was no activation.
  case none
  /// It passes where (z − mean) · scale + bias > 0: a ReLU without a residual, computed again from z.
  case recomputed
  /// The sum of dy and `adding`, for an output that two layers read, passes where this output is > 0: a ReLU after a
  /// residual. The part that passes is written to dy, and is also the gradient of the residual.
  case output(MatrixOperand<S>, adding: MatrixOperand<S>? = nil)
}

/// sum[j] = Σ_i h, along[j] = Σ_i h (z − mean[j]), where h is the part of dy that passes the mask.
@specialized(where S == Float) @specialized(where S == Double)
public func batchNormBackwardSums<S: Scalar>(
  _ dy: MatrixOperand<S>, z: MatrixOperand<S>, mask: BatchNormMask<S>, _ vectors: BatchNormVectors<S>,
  sum: Tensor<Double>, along: Tensor<Double>
) {
  let (n, c) = (z.rows, z.columns)
  precondition(
    dy.shape.count == z.shape.count && vectors.scale.count == c && sum.count == c && along.count == c,
    "batch norm backward of \(dy.shape), \(z.shape) into \(sum.shape), \(along.shape)")
  switch z {
  case .fp32: sumBlocks(BatchNormSums<FP32Elements>(dy, z, mask, vectors), n, sum.pointer, along.pointer)
  case .bf16: sumBlocks(BatchNormSums<BFloat16Elements>(dy, z, mask, vectors), n, sum.pointer, along.pointer)
  }
}

/// The operands of `batchNormBackwardSums`.
struct BatchNormSums<E: Elements> {
  enum Mask {
    case none, recomputed
    case output(E, adding: E?)
  }

  let gradient: E
  let z: E
  let mask: Mask
  let vectors: BatchNormVectors<E.Number>

  fileprivate init(
    _ dy: MatrixOperand<E.Number>, _ z: MatrixOperand<E.Number>, _ mask: BatchNormMask<E.Number>,
    _ vectors: BatchNormVectors<E.Number>
  ) {
    (gradient, self.z, self.vectors) = (E(dy), E(z), vectors)
    switch mask {
    case .none: self.mask = .none
    case .recomputed: self.mask = .recomputed
    case .output(let y, let other):
      precondition(
        y.shape.count == z.shape.count && (other ?? y).shape.count == z.shape.count,
        "batch norm backward of \(z.shape) with the output \(y.shape)")
      self.mask = .output(E(y), adding: other.map { E($0) })
    }
  }

  /// Returns h of one element; if the mask is an output, it is also written to dy.
  fileprivate func passing(row i: Int, column j: Int) -> E.Number {
    let at = i * vectors.scale.count + j
    switch mask {
    case .none: return gradient[at]
    case .recomputed:
      let (mean, scale, bias) = vectors.pointers
      let before = bias[j].addingProduct(z[at] - mean[j], scale[j])
      return before <= 0 ? 0 : gradient[at]
    case .output(let y, let other):
      gradient[at] = y[at] <= 0 ? 0 : gradient[at] + (other.map { $0[at] } ?? 0)
      return gradient[at]
    }
  }
}

/// Sums each block of rows in the precision of `E.Number`, and all blocks in Double.
private func sumBlocks<E: Elements>(
  _ sums: BatchNormSums<E>, _ n: Int, _ s: Pointer<Double>, _ t: Pointer<Double>
) {
  let (c, parts) = (sums.vectors.scale.count, Threads.parts(n, grain: 256))
  let height = batchNormBlock(c)
  withPartialSums(of: Double.self, count: parts * 2 * c) { partial in
    withPartialSums(of: E.Number.self, count: parts * 2 * c) { scratch in
      Threads.split(n, grain: 256) { part, rows in
        let (total, totalAlong) = (partial + part * 2 * c, partial + part * 2 * c + c)
        let (block, blockAlong) = (scratch + part * 2 * c, scratch + part * 2 * c + c)
        for start in stride(from: rows.lowerBound, to: rows.upperBound, by: height) {
          blockSums(sums, start..<min(start + height, rows.upperBound), block, blockAlong)
          for j in 0..<c {
            total[j] += Double(block[j])
            totalAlong[j] += Double(blockAlong[j])
          }
        }
      }
    }
    for j in 0..<c { (s[j], t[j]) = (0, 0) }
    for part in 0..<parts {
      for j in 0..<c {
        s[j] += partial[part * 2 * c + j]
        t[j] += partial[part * 2 * c + c + j]
      }
    }
  }
}

private func blockSums<E: Elements>(
  _ sums: BatchNormSums<E>, _ rows: Range<Int>, _ sum: Pointer<E.Number>, _ along: Pointer<E.Number>
) {
  if E.Number.self == Float.self { return panelSums(sums, rows, floats(sum), floats(along)) }
  let (c, mean) = (sums.vectors.scale.count, sums.vectors.mean.pointer)
  for j in 0..<c {
    (sum[j], along[j]) = (0, 0)
    for i in rows {
      let h = sums.passing(row: i, column: j)
      sum[j] += h
      along[j] = along[j].addingProduct(h, sums.z[i * c + j] - mean[j])
    }
  }
}

/// dz = scale (h − offset − slope (z − mean)), where h is the part of dy that passes the mask if `recomputed` (see
/// `BatchNormMask`) and all of dy otherwise; dz may be dy. offset and slope are [c].
@specialized(where S == Float) @specialized(where S == Double)
public func batchNormBackward<S: Scalar>(
  _ dy: MatrixOperand<S>, z: MatrixOperand<S>, recomputed: Bool, _ vectors: BatchNormVectors<S>, offset: Tensor<S>,
  slope: Tensor<S>, into dz: MatrixOperand<S>
) {
  let c = z.columns
  precondition(
    dy.shape.count == z.shape.count && dz.shape.count == z.shape.count && vectors.scale.count == c
      && offset.count == c && slope.count == c, "batch norm backward of \(dy.shape), \(z.shape) into \(dz.shape)")
  let columns = BackwardColumns(vectors: vectors, recomputed: recomputed, offset: offset.pointer, slope: slope.pointer)
  switch z {
  case .fp32: backward(FP32Elements(dy), FP32Elements(z), columns, z.rows, into: FP32Elements(dz))
  case .bf16: backward(BFloat16Elements(dy), BFloat16Elements(z), columns, z.rows, into: BFloat16Elements(dz))
  }
}

private struct BackwardColumns<S: Scalar> {
  let vectors: BatchNormVectors<S>
  let recomputed: Bool
  let offset: Pointer<S>
  let slope: Pointer<S>
}

private func backward<E: Elements>(_ dy: E, _ z: E, _ columns: BackwardColumns<E.Number>, _ rows: Int, into dz: E) {
  let c = columns.vectors.scale.count
  Threads.forEach(rows, grain: 64) { i in
    let (gradient, row, to) = (dy.advanced(by: i * c), z.advanced(by: i * c), dz.advanced(by: i * c))
    // As in `norm`, the loop must know if two matrices are one.
    if gradient.isSame(as: to) { backwardRow(to, row, columns, to) } else { backwardRow(gradient, row, columns, to) }
  }
}

@inline(__always)
private func backwardRow<E: Elements>(_ gradient: E, _ row: E, _ columns: BackwardColumns<E.Number>, _ target: E) {
  let (c, (m, a, b)) = (columns.vectors.scale.count, columns.vectors.pointers)
  let (o, k) = (columns.offset, columns.slope)
  if columns.recomputed {
    for j in 0..<c {
      let d = row[j] - m[j]
      let h: E.Number = b[j].addingProduct(d, a[j]) <= 0 ? 0 : gradient[j]
      target[j] = a[j] * (h - o[j]).addingProduct(-k[j], d)
    }
  } else {
    for j in 0..<c { target[j] = a[j] * (gradient[j] - o[j]).addingProduct(-k[j], row[j] - m[j]) }
  }
}
