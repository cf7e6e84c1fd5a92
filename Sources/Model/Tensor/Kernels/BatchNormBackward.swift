internal import RealModule

// As in BatchNorm.swift: n rows, c columns; matrices are all exact or all rounded.

/// Where the gradient of `batchNorm`'s output passes its activation.
public enum BatchNormMask<S: Scalar> {
  /// There was none.
  case none
  /// Where (z − mean) · scale + bias > 0: ReLU without a residual, found again from z.
  case recomputed
  /// Where this output is > 0: ReLU after a residual. The gradient is the sum of dy and `adding`, for an output that
  /// went two ways; what passes is written to dy, which then also is the gradient of the residual.
  case output(Operand<S>, adding: Operand<S>? = nil)
}

/// sum[j] = Σ_i h, along[j] = Σ_i h (z − mean[j]), with h the part of dy, or of its sum with another gradient, that
/// passes the mask; where that is an output, h is written to dy.
@specialized(where S == Float)
@specialized(where S == Double)
public func batchNormBackwardSums<S: Scalar>(
  _ dy: Operand<S>, z: Operand<S>, mask: BatchNormMask<S>, mean: Tensor<S>, scale: Tensor<S>, bias: Tensor<S>,
  sum: Tensor<Double>, along: Tensor<Double>
) {
  let (n, c) = (z.rows, z.columns)
  precondition(
    dy.shape.count == z.shape.count && scale.count == c && bias.count == c && mean.count == c && sum.count == c
      && along.count == c, "batch norm backward of \(dy.shape), \(z.shape) into \(sum.shape), \(along.shape)")
  let columns = (mean.pointer, scale.pointer, bias.pointer)
  switch z {
  case .exact: batchNormSums(BatchNormSums<ExactElements>(dy, z, mask, columns), n, sum.pointer, along.pointer)
  case .rounded: batchNormSums(BatchNormSums<RoundedElements>(dy, z, mask, columns), n, sum.pointer, along.pointer)
  }
}

/// What those sums are of.
struct BatchNormSums<E: Elements> {
  enum Mask {
    case none, recomputed
    case output(E, adding: E?)
  }

  let c: Int
  let gradient: E
  let z: E
  let mask: Mask
  let mean: UnsafeMutablePointer<E.Number>
  let scale: UnsafeMutablePointer<E.Number>
  let bias: UnsafeMutablePointer<E.Number>

  typealias Columns = (UnsafeMutablePointer<E.Number>, UnsafeMutablePointer<E.Number>, UnsafeMutablePointer<E.Number>)

  fileprivate init(
    _ dy: Operand<E.Number>, _ z: Operand<E.Number>, _ mask: BatchNormMask<E.Number>, _ columns: Columns
  ) {
    c = z.columns
    (gradient, self.z) = (E(dy), E(z))
    self.mask =
      switch mask {
      case .none: .none
      case .recomputed: .recomputed
      case .output(let y, let other): .output(E(y), adding: other.map(E.init))
      }
    if case .output(let y, let other) = mask {
      precondition(
        y.shape.count == z.shape.count && (other ?? y).shape.count == z.shape.count,
        "batch norm backward of \(z.shape) with the output \(y.shape)")
    }
    (mean, scale, bias) = columns
  }

  /// Of one element, at row i and column j; where the mask is an output, it is written too.
  fileprivate func passing(_ i: Int, _ j: Int) -> E.Number {
    let at = i * c + j
    switch mask {
    case .none: return gradient[at]
    case .recomputed: return bias[j].addingProduct(z[at] - mean[j], scale[j]) <= 0 ? 0 : gradient[at]
    case .output(let y, let other):
      gradient[at] = y[at] <= 0 ? 0 : gradient[at] + (other.map { $0[at] } ?? 0)
      return gradient[at]
    }
  }
}

/// Sums of blocks of rows in their own precision, of all blocks in Double.
private func batchNormSums<E: Elements>(
  _ sums: BatchNormSums<E>, _ n: Int, _ s: UnsafeMutablePointer<Double>, _ t: UnsafeMutablePointer<Double>
) {
  let c = sums.c
  let parts = Threads.parts(n, grain: 256)
  let height = batchNormBlock(c)
  withPartialSums(of: Double.self, count: parts * 2 * c) { partial in
    withPartialSums(of: E.Number.self, count: parts * 2 * c) { scratch in
      Threads.split(n, grain: 256) { part, rows in
        let (total, totalAlong) = (partial + part * 2 * c, partial + part * 2 * c + c)
        let (block, blockAlong) = (scratch + part * 2 * c, scratch + part * 2 * c + c)
        var start = rows.lowerBound
        while start < rows.upperBound {
          let end = min(start + height, rows.upperBound)
          blockSums(sums, start..<end, block, blockAlong)
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

private func blockSums<E: Elements>(
  _ sums: BatchNormSums<E>, _ rows: Range<Int>, _ sum: UnsafeMutablePointer<E.Number>,
  _ along: UnsafeMutablePointer<E.Number>
) {
  if E.Number.self == Float.self { return panelSums(sums, rows, floats(sum), floats(along)) }
  for j in 0..<sums.c {
    (sum[j], along[j]) = (0, 0)
    for i in rows {
      let h = sums.passing(i, j)
      sum[j] += h
      along[j] = along[j].addingProduct(h, sums.z[i * sums.c + j] - sums.mean[j])
    }
  }
}

/// dz = scale (h − offset − slope (z − mean)), with h the part of dy that passes the mask (`recomputed`: see
/// `BatchNormMask`; otherwise all of it); dz may be dy.
@specialized(where S == Float)
@specialized(where S == Double)
public func batchNormBackward<S: Scalar>(
  _ dy: Operand<S>, z: Operand<S>, recomputed: Bool, mean: Tensor<S>, scale: Tensor<S>, bias: Tensor<S>,
  offset: Tensor<S>, slope: Tensor<S>, into dz: Operand<S>
) {
  let c = z.columns
  precondition(
    dy.shape.count == z.shape.count && dz.shape.count == z.shape.count
      && [mean, scale, bias, offset, slope].allSatisfy { $0.count == c },
    "batch norm backward of \(dy.shape), \(z.shape) into \(dz.shape)")
  let columns = BackwardColumns(
    c: c, recomputed: recomputed, mean: mean.pointer, scale: scale.pointer, bias: bias.pointer,
    offset: offset.pointer, slope: slope.pointer)
  switch z {
  case .exact: backward(ExactElements(dy), ExactElements(z), columns, z.rows, into: ExactElements(dz))
  case .rounded: backward(RoundedElements(dy), RoundedElements(z), columns, z.rows, into: RoundedElements(dz))
  }
}

private struct BackwardColumns<S: Scalar> {
  let c: Int
  let recomputed: Bool
  let mean: UnsafeMutablePointer<S>
  let scale: UnsafeMutablePointer<S>
  let bias: UnsafeMutablePointer<S>
  let offset: UnsafeMutablePointer<S>
  let slope: UnsafeMutablePointer<S>
}

private func backward<E: Elements>(
  _ dy: E, _ z: E, _ columns: BackwardColumns<E.Number>, _ rows: Int, into dz: E
) {
  let c = columns.c
  Threads.split(rows, grain: 64) { _, rows in
    for i in rows {
      let (gradient, row, target) = (dy.advanced(by: i * c), z.advanced(by: i * c), dz.advanced(by: i * c))
      // As in `norm`: the loop must know where two are one.
      if gradient.isSame(as: target) {
        backwardRow(target, row, columns, target)
      } else {
        backwardRow(gradient, row, columns, target)
      }
    }
  }
}

@inline(__always)
private func backwardRow<E: Elements>(_ gradient: E, _ row: E, _ columns: BackwardColumns<E.Number>, _ target: E) {
  let (m, a, b, o, k) = (columns.mean, columns.scale, columns.bias, columns.offset, columns.slope)
  if columns.recomputed {
    for j in 0..<columns.c {
      let d = row[j] - m[j]
      let h: E.Number = b[j].addingProduct(d, a[j]) <= 0 ? 0 : gradient[j]
      target[j] = a[j] * (h - o[j]).addingProduct(-k[j], d)
    }
  } else {
    for j in 0..<columns.c { target[j] = a[j] * (gradient[j] - o[j]).addingProduct(-k[j], row[j] - m[j]) }
  }
}
