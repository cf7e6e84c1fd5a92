internal import RealModule

// n rows (points of all images) of c columns (channels), in fp32 or bf16 (Ioffe, Szegedy: Batch Normalization, 2015).
// Statistics are in Double, whatever the rows are.

/// The number of rows in a block: few enough that a block stays in the cache while it is read twice, and that sums over
/// it in Float lose hardly any digits.
func batchNormBlock(_ c: Int) -> Int { min(max((1 << 16) / max(c, 1), 8), 128) }

/// mean[j] = mean of column j, squares[j] = Σ_i (x[i, j] − mean[j])² for x [n, c]; both are 0 if there are no rows.
///
/// Each block of rows is read twice: for its mean, then for the distances from it, whose sum corrects the rounding of
/// that mean. Blocks are merged in Double (Chan, Golub, LeVeque: Updating Formulae and a Pairwise Algorithm for
/// Computing Sample Variances, 1979), so neither a mean far from zero nor many rows cost digits.
@specialized(where S == Float) @specialized(where S == Double)
public func columnMoments<S: Scalar>(_ x: MatrixOperand<S>, mean: Tensor<Double>, squares: Tensor<Double>) {
  let (n, c) = (x.rows, x.columns)
  precondition(mean.count == c && squares.count == c, "moments of \(x.shape) into \(mean.shape), \(squares.shape)")
  let parts = Threads.parts(n, grain: 256)
  let height = batchNormBlock(c)
  let (m, q) = (mean.pointer, squares.pointer)
  withPartialSums(of: Double.self, count: parts * 2 * c) { partial in
    withPartialSums(of: S.self, count: parts * 3 * c) { scratch in
      Threads.split(n, grain: 256) { part, rows in
        let (mu, square) = (partial + part * 2 * c, partial + part * 2 * c + c)
        let (center, shift, squares) = (
          scratch + part * 3 * c, scratch + part * 3 * c + c, scratch + (part * 3 + 2) * c
        )
        var start = rows.lowerBound
        while start < rows.upperBound {
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
          start = end
        }
      }
    }
    for j in 0..<c {
      m[j] = 0
      q[j] = 0
    }
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
  _ x: E, _ c: Int, _ rows: Range<Int>, _ center: UnsafeMutablePointer<E.Number>,
  _ shift: UnsafeMutablePointer<E.Number>, _ squares: UnsafeMutablePointer<E.Number>
) {
  if E.Number.self == Float.self {
    return panelMoments(x, c, rows, floats(center), floats(shift), floats(squares))
  }
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
  _ mean: UnsafeMutablePointer<Double>, _ squares: UnsafeMutablePointer<Double>, before: Double, _ c: Int,
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
}

/// y = f((z − mean) · scale + bias + residual), column by column, where f is max(·, 0) with `relu` and the identity
/// without. z, residual and y are [n, c] in one precision; y may be z or the residual.
@specialized(where S == Float) @specialized(where S == Double)
public func batchNorm<S: Scalar>(
  _ z: MatrixOperand<S>, _ vectors: BatchNormVectors<S>, adding residual: MatrixOperand<S>? = nil, relu: Bool,
  into y: MatrixOperand<S>
) {
  precondition(
    y.shape.count == z.shape.count && vectors.scale.count == z.columns
      && (residual.map { $0.shape.count == z.shape.count } ?? true),
    "batch norm of \(z.shape) with \(vectors.scale.shape) into \(y.shape)")
  let columns = NormedColumns(vectors, relu: relu)
  switch z {
  case .fp32: norm(FP32Elements(z), residual.map(FP32Elements.init), columns, y.rows, into: FP32Elements(y))
  case .bf16: norm(BFloat16Elements(z), residual.map(BFloat16Elements.init), columns, y.rows, into: BFloat16Elements(y))
  }
}

/// The memory of `BatchNormVectors`, and whether a ReLU follows.
struct NormedColumns<S: Scalar> {
  let c: Int
  let mean: UnsafeMutablePointer<S>
  let scale: UnsafeMutablePointer<S>
  let bias: UnsafeMutablePointer<S>
  let relu: Bool

  init(_ vectors: BatchNormVectors<S>, relu: Bool = false) {
    c = vectors.scale.count
    (mean, scale, bias) = (vectors.mean.pointer, vectors.scale.pointer, vectors.bias.pointer)
    self.relu = relu
  }
}

private func norm<E: Elements>(
  _ z: E, _ residual: E?, _ columns: NormedColumns<E.Number>, _ rows: Int, into y: E
) {
  let c = columns.c
  Threads.split(rows, grain: 64) { _, rows in
    for i in rows {
      let (source, target) = (z.advanced(by: i * c), y.advanced(by: i * c))
      // If two matrices are one, the loop must know it, or it is compiled for memory that may overlap, which is slow.
      if let residual {
        let other = residual.advanced(by: i * c)
        if other.isSame(as: target) {
          normRow(source, target, columns, target)
        } else {
          normRow(source, other, columns, target)
        }
      } else if source.isSame(as: target) {
        normRow(target, nil, columns, target)
      } else {
        normRow(source, nil, columns, target)
      }
    }
  }
}

@inline(__always)
private func normRow<E: Elements>(_ source: E, _ other: E?, _ columns: NormedColumns<E.Number>, _ target: E) {
  let (m, a, b) = (columns.mean, columns.scale, columns.bias)
  if let other {
    if columns.relu {
      for j in 0..<columns.c {
        let value = b[j].addingProduct(source[j] - m[j], a[j]) + other[j]
        target[j] = value < 0 ? 0 : value
      }
    } else {
      for j in 0..<columns.c { target[j] = b[j].addingProduct(source[j] - m[j], a[j]) + other[j] }
    }
  } else if columns.relu {
    for j in 0..<columns.c {
      let value = b[j].addingProduct(source[j] - m[j], a[j])
      target[j] = value < 0 ? 0 : value
    }
  } else {
    for j in 0..<columns.c { target[j] = b[j].addingProduct(source[j] - m[j], a[j]) }
  }
}
