internal import RealModule

// n rows (points of all pictures), c columns (channels), exact or rounded. Statistics are held in Double, whatever the
// rows are.

/// Rows of a block: so few that it stays in the cache while it is read twice, and that sums of a Float's digits over it
/// lose hardly any.
func batchNormBlock(_ c: Int) -> Int { min(max((1 << 16) / max(c, 1), 8), 128) }

/// mean[j] = mean of column j, squares[j] = Σ_i (x[i, j] − mean[j])²; both 0 where there are no rows.
///
/// Blocks of rows are read twice: for their mean, then for the distances from it, corrected by what that mean is off.
/// Blocks are merged in Double, so neither a far mean nor many rows cost digits.
@specialized(where S == Float)
@specialized(where S == Double)
public func columnMoments<S: Scalar>(_ x: Operand<S>, mean: Tensor<Double>, squares: Tensor<Double>) {
  let (n, c) = (x.rows, x.columns)
  precondition(mean.count == c && squares.count == c, "moments of \(x.shape) into \(mean.shape), \(squares.shape)")
  let parts = Threads.parts(n, grain: 256)
  let height = batchNormBlock(c)
  let (m, q) = (mean.pointer, squares.pointer)
  withPartialSums(of: Double.self, count: parts * 2 * c) { partial in
    withPartialSums(of: S.self, count: parts * 3 * c) { scratch in
      Threads.split(n, grain: 256) { part, rows in
        let (mu, square) = (partial + part * 2 * c, partial + part * 2 * c + c)
        let (center, shift, spread) = (scratch + part * 3 * c, scratch + part * 3 * c + c, scratch + (part * 3 + 2) * c)
        var start = rows.lowerBound
        while start < rows.upperBound {
          let end = min(start + height, rows.upperBound)
          switch x {
          case .exact: blockMoments(ExactElements(x), c, start..<end, center, shift, spread)
          case .rounded: blockMoments(RoundedElements(x), c, start..<end, center, shift, spread)
          }
          let count = Double(end - start)
          merge(
            mu, square, Double(start - rows.lowerBound), c, count,
            { Double(center[$0]) + Double(shift[$0]) / count },
            { Double(spread[$0]) - Double(shift[$0]) * Double(shift[$0]) / count })
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
      merge(m, q, Double(before), c, Double(count), { mu[$0] }, { square[$0] })
      before += count
    }
  }
}

/// The rows' mean, and the sums of distances and of squared distances from it.
private func blockMoments<E: Elements>(
  _ x: E, _ c: Int, _ rows: Range<Int>, _ center: UnsafeMutablePointer<E.Number>,
  _ shift: UnsafeMutablePointer<E.Number>, _ spread: UnsafeMutablePointer<E.Number>
) {
  if E.Number.self == Float.self {
    return panelMoments(x, c, rows, floats(center), floats(shift), floats(spread))
  }
  let share = 1 / E.Number(rows.count)
  for j in 0..<c {
    (center[j], shift[j], spread[j]) = (0, 0, 0)
    for i in rows { center[j] += x[i * c + j] }
    center[j] *= share
    for i in rows {
      let distance = x[i * c + j] - center[j]
      shift[j] += distance
      spread[j] = spread[j].addingProduct(distance, distance)
    }
  }
}

/// Joins the moments of `before` rows with those of `count` more.
@inline(__always)
private func merge(
  _ mean: UnsafeMutablePointer<Double>, _ squares: UnsafeMutablePointer<Double>, _ before: Double, _ c: Int,
  _ count: Double, _ otherMean: (Int) -> Double, _ otherSquares: (Int) -> Double
) {
  guard count > 0 else { return }
  let share = count / (before + count)
  for j in 0..<c {
    let delta = otherMean(j) - mean[j]
    mean[j] += delta * share
    squares[j] += otherSquares(j) + delta * delta * before * share
  }
}

/// y = f((z − mean) · scale + bias + residual), column by column, where f is max(·, 0) with `relu` and nothing without;
/// y may be z or the residual. All are exact or all rounded.
@specialized(where S == Float)
@specialized(where S == Double)
public func batchNorm<S: Scalar>(
  _ z: Operand<S>, mean: Tensor<S>, scale: Tensor<S>, bias: Tensor<S>, adding residual: Operand<S>? = nil, relu: Bool,
  into y: Operand<S>
) {
  let c = z.columns
  precondition(
    y.shape.count == z.shape.count && mean.count == c && scale.count == c && bias.count == c
      && (residual.map { $0.shape.count == z.shape.count } ?? true),
    "batch norm of \(z.shape) with \(mean.shape), \(scale.shape), \(bias.shape) into \(y.shape)")
  let columns = NormedColumns(c: c, mean: mean.pointer, scale: scale.pointer, bias: bias.pointer, relu: relu)
  switch z {
  case .exact: norm(ExactElements(z), residual.map(ExactElements.init), columns, y.rows, into: ExactElements(y))
  case .rounded: norm(RoundedElements(z), residual.map(RoundedElements.init), columns, y.rows, into: RoundedElements(y))
  }
}

private struct NormedColumns<S: Scalar> {
  let c: Int
  let mean: UnsafeMutablePointer<S>
  let scale: UnsafeMutablePointer<S>
  let bias: UnsafeMutablePointer<S>
  let relu: Bool
}

private func norm<E: Elements>(
  _ z: E, _ residual: E?, _ columns: NormedColumns<E.Number>, _ rows: Int, into y: E
) {
  let c = columns.c
  Threads.split(rows, grain: 64) { _, rows in
    for i in rows {
      let (source, target) = (z.advanced(by: i * c), y.advanced(by: i * c))
      // Where two matrices are one, the loop must know it, or it takes the slow way of loops that may overlap.
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
