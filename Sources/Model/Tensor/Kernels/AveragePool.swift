// Rows are channels last (see Plane).

/// y = the means of 2 × 2 points; an odd line or column at the end is left out.
@specialized(where S == Float)
@specialized(where S == Double)
public func averagePool<S: Scalar>(_ x: Tensor<S>, _ plane: Plane, into y: Tensor<S>) {
  let c = x.columns
  let output = plane.halved
  precondition(x.rows == plane.rows && y.rows == output.rows && y.columns == c, "\(x.shape), \(plane) into \(y.shape)")
  let (p, q) = (x.pointer, y.pointer)
  Threads.split(output.lines, grain: 4) { _, lines in
    for line in lines {
      let (picture, row) = line.quotientAndRemainder(dividingBy: output.height)
      for column in 0..<output.width {
        let upper = p + ((picture * plane.height + 2 * row) * plane.width + 2 * column) * c
        let lower = upper + plane.width * c
        let target = q + (line * output.width + column) * c
        for j in 0..<c { target[j] = (upper[j] + upper[c + j] + lower[j] + lower[c + j]) * 0.25 }
      }
    }
  }
}

/// Writes dx: a quarter of dy to each of its four points, zero to what pooling left out.
@specialized(where S == Float)
@specialized(where S == Double)
public func averagePoolBackward<S: Scalar>(_ dy: Tensor<S>, _ plane: Plane, into dx: Tensor<S>) {
  let c = dx.columns
  let output = plane.halved
  precondition(
    dx.rows == plane.rows && dy.rows == output.rows && dy.columns == c, "\(dy.shape), \(plane) into \(dx.shape)")
  let (p, q) = (dy.pointer, dx.pointer)
  Threads.split(plane.lines, grain: 4) { _, lines in
    for line in lines {
      let (picture, y) = line.quotientAndRemainder(dividingBy: plane.height)
      let target = q + line * plane.width * c
      let pooled = y / 2 < output.height ? output.width : 0
      let source = p + (picture * output.height + y / 2) * output.width * c
      for column in 0..<pooled {
        let (from, to) = (source + column * c, target + 2 * column * c)
        for j in 0..<c {
          let share = from[j] * 0.25
          to[j] = share
          to[c + j] = share
        }
      }
      (target + 2 * pooled * c).update(repeating: 0, count: (plane.width - 2 * pooled) * c)
    }
  }
}
