// Rows are points with channels last (see Plane).

/// Writes to y [halved.rows, c] the means of 2 × 2 points of x [rows, c]; a last odd line or column is left out.
@specialized(where S == Float) @specialized(where S == Double)
public func averagePool<S: Scalar>(_ x: MatrixOperand<S>, _ plane: Plane, into y: MatrixOperand<S>) {
  precondition(
    x.rows == plane.rows && y.rows == plane.halved.rows && y.columns == x.columns,
    "\(x.shape), \(plane) into \(y.shape)")
  switch x {
  case .fp32: pool(FP32Elements(x), plane, channels: x.columns, into: FP32Elements(y))
  case .bf16: pool(BFloat16Elements(x), plane, channels: x.columns, into: BFloat16Elements(y))
  }
}

private func pool<E: Elements>(_ p: E, _ plane: Plane, channels c: Int, into q: E) {
  let output = plane.halved
  Threads.split(output.lines, grain: 4) { _, lines in
    for line in lines {
      let (image, row) = line.quotientAndRemainder(dividingBy: output.height)
      for column in 0..<output.width {
        let upper = p.advanced(by: ((image * plane.height + 2 * row) * plane.width + 2 * column) * c)
        let lower = upper.advanced(by: plane.width * c)
        let (upperNext, lowerNext) = (upper.advanced(by: c), lower.advanced(by: c))
        let target = q.advanced(by: (line * output.width + column) * c)
        for j in 0..<c { target[j] = (upper[j] + upperNext[j] + lower[j] + lowerNext[j]) * 0.25 }
      }
    }
  }
}

/// Writes to dx [rows, c] a quarter of dy [halved.rows, c] at each of its four points, and 0 at points left out.
@specialized(where S == Float) @specialized(where S == Double)
public func averagePoolBackward<S: Scalar>(_ dy: MatrixOperand<S>, _ plane: Plane, into dx: MatrixOperand<S>) {
  precondition(
    dx.rows == plane.rows && dy.rows == plane.halved.rows && dy.columns == dx.columns,
    "\(dy.shape), \(plane) into \(dx.shape)")
  switch dy {
  case .fp32: unpool(FP32Elements(dy), plane, channels: dx.columns, into: FP32Elements(dx))
  case .bf16: unpool(BFloat16Elements(dy), plane, channels: dx.columns, into: BFloat16Elements(dx))
  }
}

private func unpool<E: Elements>(_ p: E, _ plane: Plane, channels c: Int, into q: E) {
  let output = plane.halved
  Threads.split(plane.lines, grain: 4) { _, lines in
    for line in lines {
      let (image, y) = line.quotientAndRemainder(dividingBy: plane.height)
      let target = q.advanced(by: line * plane.width * c)
      let pooled = y / 2 < output.height ? output.width : 0
      let source = p.advanced(by: (image * output.height + y / 2) * output.width * c)
      for column in 0..<pooled {
        let (from, to) = (source.advanced(by: column * c), target.advanced(by: 2 * column * c))
        let next = to.advanced(by: c)
        for j in 0..<c {
          let share = from[j] * 0.25
          to[j] = share
          next[j] = share
        }
      }
      for j in 2 * pooled * c..<plane.width * c { target[j] = 0 }
    }
  }
}
