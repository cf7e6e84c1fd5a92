internal import RealModule

// n rows (points of all pictures), c columns (channels). Statistics are held in Double, whatever the rows are.

/// Scalars of a block of rows that stays in the cache while it is read twice.
private let blockScalars = 1 << 16

/// mean[j] = mean of column j, squares[j] = Σ_i (x[i, j] − mean[j])²; both 0 where there are no rows.
///
/// Blocks of rows are read twice: for their mean, then for the distances from it, corrected by what that mean is off.
/// Blocks are merged in Double, so neither a far mean nor many rows cost digits.
@specialized(where S == Float)
@specialized(where S == Double)
public func columnMoments<S: Scalar>(_ x: Tensor<S>, mean: Tensor<Double>, squares: Tensor<Double>) {
  let (n, c) = (x.rows, x.columns)
  precondition(mean.count == c && squares.count == c, "moments of \(x.shape) into \(mean.shape), \(squares.shape)")
  let parts = Threads.parts(n, grain: 256)
  let height = max(blockScalars / max(c, 1), 8)
  let p = x.pointer
  let (m, q) = (mean.pointer, squares.pointer)
  withPartialSums(of: Double.self, count: parts * 2 * c) { partial in
    withPartialSums(of: S.self, count: parts * 3 * c) { scratch in
      Threads.split(n, grain: 256) { part, rows in
        let (mu, square) = (partial + part * 2 * c, partial + part * 2 * c + c)
        let (center, shift, spread) = (scratch + part * 3 * c, scratch + part * 3 * c + c, scratch + (part * 3 + 2) * c)
        var start = rows.lowerBound
        while start < rows.upperBound {
          let end = min(start + height, rows.upperBound)
          blockMoments(p, c, start..<end, center, shift, spread)
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
@inline(__always)
private func blockMoments<S: Scalar>(
  _ p: UnsafeMutablePointer<S>, _ c: Int, _ rows: Range<Int>, _ center: UnsafeMutablePointer<S>,
  _ shift: UnsafeMutablePointer<S>, _ spread: UnsafeMutablePointer<S>
) {
  let first = S.self == Float.self ? floatPanels(p, c, rows, center, shift, spread) : 0
  for j in first..<c {
    center[j] = 0
    shift[j] = 0
    spread[j] = 0
  }
  var i = rows.lowerBound
  while i + 4 <= rows.upperBound {
    let row = p + i * c
    for j in first..<c { center[j] += (row[j] + row[c + j]) + (row[2 * c + j] + row[3 * c + j]) }
    i += 4
  }
  while i < rows.upperBound {
    let row = p + i * c
    for j in first..<c { center[j] += row[j] }
    i += 1
  }
  let share = 1 / S(rows.count)
  for j in first..<c { center[j] *= share }
  i = rows.lowerBound
  while i + 4 <= rows.upperBound {
    let row = p + i * c
    for j in first..<c {
      let mu = center[j]
      let (d0, d1, d2, d3) = (row[j] - mu, row[c + j] - mu, row[2 * c + j] - mu, row[3 * c + j] - mu)
      shift[j] += (d0 + d1) + (d2 + d3)
      spread[j] += (d0 * d0).addingProduct(d1, d1) + (d2 * d2).addingProduct(d3, d3)
    }
    i += 4
  }
  while i < rows.upperBound {
    let row = p + i * c
    for j in first..<c {
      let d = row[j] - center[j]
      shift[j] += d
      spread[j] = spread[j].addingProduct(d, d)
    }
    i += 1
  }
}

/// `panelMoments` of numbers that are Floats.
@inline(__always)
private func floatPanels<S: Scalar>(
  _ p: UnsafeMutablePointer<S>, _ c: Int, _ rows: Range<Int>, _ center: UnsafeMutablePointer<S>,
  _ shift: UnsafeMutablePointer<S>, _ spread: UnsafeMutablePointer<S>
) -> Int {
  func floats(_ p: UnsafeMutablePointer<S>) -> UnsafeMutablePointer<Float> {
    UnsafeMutableRawPointer(p).assumingMemoryBound(to: Float.self)
  }
  return panelMoments(floats(p), c, rows, floats(center), floats(shift), floats(spread))
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

/// y = f((z − mean) · scale + bias + residual), column by column, where f is max(·, 0) with `relu` and nothing without; y may
/// be z or the residual.
@specialized(where S == Float)
@specialized(where S == Double)
public func batchNorm<S: Scalar>(
  _ z: Tensor<S>, mean: Tensor<S>, scale: Tensor<S>, bias: Tensor<S>, adding residual: Tensor<S>? = nil, relu: Bool,
  into y: Tensor<S>
) {
  let c = z.columns
  precondition(
    y.count == z.count && mean.count == c && scale.count == c && bias.count == c
      && (residual.map { $0.count == z.count } ?? true),
    "batch norm of \(z.shape) with \(mean.shape), \(scale.shape), \(bias.shape) into \(y.shape)")
  let (p, m, a, b, q) = (z.pointer, mean.pointer, scale.pointer, bias.pointer, y.pointer)
  let r = residual?.pointer
  Threads.split(z.rows, grain: 64) { _, rows in
    for i in rows {
      let (source, target) = (p + i * c, q + i * c)
      // Where two pointers are one, the loop must know it, or it takes the slow way of loops that may overlap.
      if let r {
        let other = r + i * c
        if other == target {
          normRow(source, target, m, a, b, c, target, relu)
        } else {
          normRow(source, other, m, a, b, c, target, relu)
        }
      } else if source == target {
        normRow(target, nil, m, a, b, c, target, relu)
      } else {
        normRow(source, nil, m, a, b, c, target, relu)
      }
    }
  }
}

@inline(__always)
private func normRow<S: Scalar>(
  _ source: UnsafeMutablePointer<S>, _ other: UnsafeMutablePointer<S>?, _ m: UnsafeMutablePointer<S>,
  _ a: UnsafeMutablePointer<S>, _ b: UnsafeMutablePointer<S>, _ c: Int, _ target: UnsafeMutablePointer<S>, _ relu: Bool
) {
  if let other {
    if relu {
      for j in 0..<c {
        let value = b[j].addingProduct(source[j] - m[j], a[j]) + other[j]
        target[j] = value < 0 ? 0 : value
      }
    } else {
      for j in 0..<c { target[j] = b[j].addingProduct(source[j] - m[j], a[j]) + other[j] }
    }
  } else if relu {
    for j in 0..<c {
      let value = b[j].addingProduct(source[j] - m[j], a[j])
      target[j] = value < 0 ? 0 : value
    }
  } else {
    for j in 0..<c { target[j] = b[j].addingProduct(source[j] - m[j], a[j]) }
  }
}

/// Where the gradient of `batchNorm`'s output passes its activation.
public enum BatchNormMask<S: Scalar> {
  /// There was none.
  case none
  /// Where (z − mean) · scale + bias > 0: ReLU without a residual, found again from z.
  case recomputed
  /// Where this output is > 0: ReLU after a residual. What does not pass is set to zero in dy, which then also is the
  /// gradient of the residual.
  case output(Tensor<S>)
}

/// sum[j] = Σ_i h, along[j] = Σ_i h (z − mean[j]), with h the part of dy that passes the mask.
@specialized(where S == Float)
@specialized(where S == Double)
public func batchNormBackwardSums<S: Scalar>(
  _ dy: Tensor<S>, z: Tensor<S>, mask: BatchNormMask<S>, mean: Tensor<S>, scale: Tensor<S>, bias: Tensor<S>,
  sum: Tensor<Double>, along: Tensor<Double>
) {
  let (n, c) = (z.rows, z.columns)
  precondition(
    dy.count == z.count && scale.count == c && bias.count == c && mean.count == c && sum.count == c
      && along.count == c, "batch norm backward of \(dy.shape), \(z.shape) into \(sum.shape), \(along.shape)")
  let (d, p, a, b, m) = (dy.pointer, z.pointer, scale.pointer, bias.pointer, mean.pointer)
  let (s, t) = (sum.pointer, along.pointer)
  let parts = Threads.parts(n, grain: 256)
  let height = max(blockScalars / max(c, 1), 8)
  withPartialSums(of: Double.self, count: parts * 2 * c) { partial in
    withPartialSums(of: S.self, count: parts * 2 * c) { scratch in
      Threads.split(n, grain: 256) { part, rows in
        let (total, totalAlong) = (partial + part * 2 * c, partial + part * 2 * c + c)
        let (block, blockAlong) = (scratch + part * 2 * c, scratch + part * 2 * c + c)
        var start = rows.lowerBound
        while start < rows.upperBound {
          let end = min(start + height, rows.upperBound)
          for j in 0..<2 * c { block[j] = 0 }
          for i in start..<end {
            let (gradient, row) = (d + i * c, p + i * c)
            switch mask {
            case .none:
              for j in 0..<c {
                block[j] += gradient[j]
                blockAlong[j] = blockAlong[j].addingProduct(gradient[j], row[j] - m[j])
              }
            case .recomputed:
              for j in 0..<c {
                let d = row[j] - m[j]
                let h: S = b[j].addingProduct(d, a[j]) <= 0 ? 0 : gradient[j]
                block[j] += h
                blockAlong[j] = blockAlong[j].addingProduct(h, d)
              }
            case .output(let y):
              let output = y.pointer + i * c
              for j in 0..<c {
                let h: S = output[j] <= 0 ? 0 : gradient[j]
                gradient[j] = h
                block[j] += h
                blockAlong[j] = blockAlong[j].addingProduct(h, row[j] - m[j])
              }
            }
          }
          for j in 0..<c {
            total[j] += Double(block[j])
            totalAlong[j] += Double(blockAlong[j])
          }
          start = end
        }
      }
    }
    for j in 0..<c {
      s[j] = 0
      t[j] = 0
    }
    for part in 0..<parts {
      for j in 0..<c {
        s[j] += partial[part * 2 * c + j]
        t[j] += partial[part * 2 * c + c + j]
      }
    }
  }
}

/// dz = scale (h − offset − slope (z − mean)), with h the part of dy that passes the mask (`recomputed`: see
/// `BatchNormMask`; otherwise all of it); dz may be dy.
@specialized(where S == Float)
@specialized(where S == Double)
public func batchNormBackward<S: Scalar>(
  _ dy: Tensor<S>, z: Tensor<S>, recomputed: Bool, mean: Tensor<S>, scale: Tensor<S>, bias: Tensor<S>,
  offset: Tensor<S>, slope: Tensor<S>, into dz: Tensor<S>
) {
  let c = z.columns
  precondition(
    dy.count == z.count && dz.count == z.count
      && [mean, scale, bias, offset, slope].allSatisfy { $0.count == c },
    "batch norm backward of \(dy.shape), \(z.shape) into \(dz.shape)")
  let (d, p, a, b, m) = (dy.pointer, z.pointer, scale.pointer, bias.pointer, mean.pointer)
  let (o, k, q) = (offset.pointer, slope.pointer, dz.pointer)
  Threads.split(z.rows, grain: 64) { _, rows in
    for i in rows {
      let (gradient, row, target) = (d + i * c, p + i * c, q + i * c)
      if gradient == target {
        backwardRow(target, row, recomputed, m, a, b, o, k, c, target)
      } else {
        backwardRow(gradient, row, recomputed, m, a, b, o, k, c, target)
      }
    }
  }
}

@inline(__always)
private func backwardRow<S: Scalar>(
  _ gradient: UnsafeMutablePointer<S>, _ row: UnsafeMutablePointer<S>, _ recomputed: Bool, _ m: UnsafeMutablePointer<S>,
  _ a: UnsafeMutablePointer<S>, _ b: UnsafeMutablePointer<S>, _ o: UnsafeMutablePointer<S>,
  _ k: UnsafeMutablePointer<S>, _ c: Int, _ target: UnsafeMutablePointer<S>
) {
  if recomputed {
    for j in 0..<c {
      let d = row[j] - m[j]
      let h: S = b[j].addingProduct(d, a[j]) <= 0 ? 0 : gradient[j]
      target[j] = a[j] * (h - o[j]).addingProduct(-k[j], d)
    }
  } else {
    for j in 0..<c { target[j] = a[j] * (gradient[j] - o[j]).addingProduct(-k[j], row[j] - m[j]) }
  }
}
