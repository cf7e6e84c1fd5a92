// Rows are channels last (see Plane).

/// y = the means of 2 × 2 points; an odd line or column at the end is left out.
@specialized(where S == Float)
@specialized(where S == Double)
public func averagePool<S: Scalar>(_ x: Operand<S>, _ plane: Plane, into y: Operand<S>) {
  precondition(
    x.rows == plane.rows && y.rows == plane.halved.rows && y.columns == x.columns,
    "\(x.shape), \(plane) into \(y.shape)")
  switch x {
  case .exact: pool(ExactElements(x), plane, x.columns, into: ExactElements(y))
  case .rounded: pool(RoundedElements(x), plane, x.columns, into: RoundedElements(y))
  }
}

private func pool<E: Elements>(_ p: E, _ plane: Plane, _ c: Int, into q: E) {
  let output = plane.halved
  Threads.split(output.lines, grain: 4) { _, lines in
    for line in lines {
      let (picture, row) = line.quotientAndRemainder(dividingBy: output.height)
      for column in 0..<output.width {
        let upper = p.advanced(by: ((picture * plane.height + 2 * row) * plane.width + 2 * column) * c)
        let lower = upper.advanced(by: plane.width * c)
        let (upperNext, lowerNext) = (upper.advanced(by: c), lower.advanced(by: c))
        let target = q.advanced(by: (line * output.width + column) * c)
        for j in 0..<c { target[j] = (upper[j] + upperNext[j] + lower[j] + lowerNext[j]) * 0.25 }
      }
    }
  }
}

/// Writes dx: a quarter of dy to each of its four points, zero to what pooling left out.
@specialized(where S == Float)
@specialized(where S == Double)
public func averagePoolBackward<S: Scalar>(_ dy: Operand<S>, _ plane: Plane, into dx: Operand<S>) {
  precondition(
    dx.rows == plane.rows && dy.rows == plane.halved.rows && dy.columns == dx.columns,
    "\(dy.shape), \(plane) into \(dx.shape)")
  switch dy {
  case .exact: unpool(ExactElements(dy), plane, dx.columns, into: ExactElements(dx))
  case .rounded: unpool(RoundedElements(dy), plane, dx.columns, into: RoundedElements(dx))
  }
}

private func unpool<E: Elements>(_ p: E, _ plane: Plane, _ c: Int, into q: E) {
  let output = plane.halved
  Threads.split(plane.lines, grain: 4) { _, lines in
    for line in lines {
      let (picture, y) = line.quotientAndRemainder(dividingBy: plane.height)
      let target = q.advanced(by: line * plane.width * c)
      let pooled = y / 2 < output.height ? output.width : 0
      let source = p.advanced(by: (picture * output.height + y / 2) * output.width * c)
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
