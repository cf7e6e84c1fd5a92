internal import RealModule

// n rows, c columns; all matrices are [n, c] in one precision.

/// The part of the gradient of `batchNorm`'s output that passes its activation.
public enum BatchNormMask<S: Scalar> {
  /// Everything passes: there was no activation.
  case none
  /// The gradient passes where (z − mean) · scale + bias > 0: a ReLU without a residual, computed again from z.
  case recomputed
  /// The gradient passes where this output is > 0: a ReLU after a residual. It is the sum of dy and `adding`, for an
  /// output that two layers read; the part that passes is written to dy, and is also the gradient of the residual.
  case output(MatrixOperand<S>, adding: MatrixOperand<S>? = nil)
}

/// sum[j] = Σ_i h, along[j] = Σ_i h (z − mean[j]), where h is the part of dy, or of its sum with another gradient, that
/// passes the mask; if that is an output, h is written to dy.
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
  case .fp32: batchNormSums(BatchNormSums<FP32Elements>(dy, z, mask, vectors), n, sum.pointer, along.pointer)
  case .bf16: batchNormSums(BatchNormSums<BFloat16Elements>(dy, z, mask, vectors), n, sum.pointer, along.pointer)
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
  let columns: NormedColumns<E.Number>

  fileprivate init(
    _ dy: MatrixOperand<E.Number>, _ z: MatrixOperand<E.Number>, _ mask: BatchNormMask<E.Number>,
    _ vectors: BatchNormVectors<E.Number>
  ) {
    (gradient, self.z, columns) = (E(dy), E(z), NormedColumns(vectors))
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
  }

  /// Returns h of one element; if the mask is an output, it is also written to dy.
  fileprivate func passing(row i: Int, column j: Int) -> E.Number {
    let at = i * columns.c + j
    switch mask {
    case .none: return gradient[at]
    case .recomputed:
      let before = columns.bias[j].addingProduct(z[at] - columns.mean[j], columns.scale[j])
      return before <= 0 ? 0 : gradient[at]
    case .output(let y, let other):
      gradient[at] = y[at] <= 0 ? 0 : gradient[at] + (other.map { $0[at] } ?? 0)
      return gradient[at]
    }
  }
}

/// Sums each block of rows in the precision of `E.Number`, and all blocks in Double.
private func batchNormSums<E: Elements>(
  _ sums: BatchNormSums<E>, _ n: Int, _ s: UnsafeMutablePointer<Double>, _ t: UnsafeMutablePointer<Double>
) {
  let c = sums.columns.c
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
  let (c, mean) = (sums.columns.c, sums.columns.mean)
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
  let columns = BackwardColumns(
    forward: NormedColumns(vectors, relu: recomputed), offset: offset.pointer, slope: slope.pointer)
  switch z {
  case .fp32: backward(FP32Elements(dy), FP32Elements(z), columns, z.rows, into: FP32Elements(dz))
  case .bf16: backward(BFloat16Elements(dy), BFloat16Elements(z), columns, z.rows, into: BFloat16Elements(dz))
  }
}

private struct BackwardColumns<S: Scalar> {
  /// `relu` means that the mask is recomputed.
  let forward: NormedColumns<S>
  let offset: UnsafeMutablePointer<S>
  let slope: UnsafeMutablePointer<S>
}

private func backward<E: Elements>(
  _ dy: E, _ z: E, _ columns: BackwardColumns<E.Number>, _ rows: Int, into dz: E
) {
  let c = columns.forward.c
  Threads.split(rows, grain: 64) { _, rows in
    for i in rows {
      let (gradient, row, target) = (dy.advanced(by: i * c), z.advanced(by: i * c), dz.advanced(by: i * c))
      // As in `norm`, the loop must know if two matrices are one.
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
  let (m, a, b, o, k) = (
    columns.forward.mean, columns.forward.scale, columns.forward.bias, columns.offset, columns.slope
  )
  let c = columns.forward.c
  if columns.forward.relu {
    for j in 0..<c {
      let d = row[j] - m[j]
      let h: E.Number = b[j].addingProduct(d, a[j]) <= 0 ? 0 : gradient[j]
      target[j] = a[j] * (h - o[j]).addingProduct(-k[j], d)
    }
  } else {
    for j in 0..<c { target[j] = a[j] * (gradient[j] - o[j]).addingProduct(-k[j], row[j] - m[j]) }
  }
}
