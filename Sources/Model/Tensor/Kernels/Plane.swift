/// The sizes of images whose points are the rows of a matrix, with channels last: point (y, x) of image p is row
/// (p · height + y) · width + x.
public struct Plane: Hashable, Sendable, CustomStringConvertible {
  public let images: Int
  public let height: Int
  public let width: Int

  public init(images: Int, height: Int, width: Int) {
    precondition(images >= 0 && height >= 0 && width >= 0, "a plane of \(images) × \(height) × \(width)")
    (self.images, self.height, self.width) = (images, height, width)
  }

  /// The number of points of all images.
  public var rows: Int { images * height * width }
  /// The number of points of one image.
  public var points: Int { height * width }
  /// The number of lines of all images.
  var lines: Int { images * height }

  /// Returns the output sizes of a 3 × 3 convolution with this stride and a border of one zero.
  public func convolved(stride: Int) -> Plane {
    func size(_ n: Int) -> Int { n == 0 ? 0 : (n - 1) / stride + 1 }
    return Plane(images: images, height: size(height), width: size(width))
  }

  /// The output sizes of 2 × 2 pooling; a last odd line or column is left out.
  public var halved: Plane { Plane(images: images, height: height / 2, width: width / 2) }
  public var description: String { "\(images) images of \(height) × \(width)" }
}

/// rows [b · h · w, c] ← images [b, c, h, w].
@specialized(where S == Float) @specialized(where S == Double)
public func channelsLast<S: Scalar>(_ images: Tensor<S>, into rows: Tensor<S>) {
  precondition(images.shape.rank == 4, "images are [b, c, h, w], not \(images.shape)")
  let (b, c, points) = (images.shape[0], images.shape[1], images.shape[2] * images.shape[3])
  precondition(rows.rows == b * points && rows.columns == c, "\(images.shape) into \(rows.shape)")
  let (source, target) = (images.pointer, rows.pointer)
  Threads.forEach(b) { image in
    let (from, to) = (source + image * c * points, target + image * points * c)
    for channel in 0..<c { for point in 0..<points { to[point * c + channel] = from[channel * points + point] } }
  }
}

/// rows [b·(H/p)·(W/p), c·p·p] ← images [b, c, H, W], cut into patches of p × p points, each a row.
/// Patches run along a line of the image first; their elements have the order of a convolution's weight [w, c, p, p],
/// so that patch embedding is one product. What lies beyond the last whole patch is left out, as in a convolution.
/// With `tokens` [b · t], only t − 1 patches of each image are cut: behind the class token, 0, they count from 1.
@specialized(where S == Float) @specialized(where S == Double)
public func patches<S: Scalar>(of images: Tensor<S>, size p: Int, tokens: [Int] = [], into rows: MatrixOperand<S>) {
  let shape = images.shape
  precondition(shape.rank == 4, "images are [b, c, H, W], not \(shape)")
  let count = tokens.isEmpty ? shape[0] * (shape[2] / p) * (shape[3] / p) : tokens.count - shape[0]
  precondition(rows.rows == count && rows.columns == shape[1] * p * p, "\(shape) into \(rows.shape)")
  switch rows {
  case .fp32: cutPatches(images, size: p, tokens, into: FP32Elements(rows))
  case .bf16: cutPatches(images, size: p, tokens, into: BFloat16Elements(rows))
  }
}

@inline(__always) private func cutPatches<E: Elements>(
  _ images: Tensor<E.Number>, size p: Int, _ tokens: [Int], into target: E
) {
  guard tokens.isEmpty else { return cutSomePatches(images, size: p, tokens, into: target) }
  let (b, c, height, width) = (images.shape[0], images.shape[1], images.shape[2], images.shape[3])
  let (source, down, across, length) = (images.pointer, height / p, width / p, c * p * p)
  Threads.forEach(b) { image in
    for row in 0..<down {
      for channel in 0..<c {
        for y in 0..<p {
          let line = source + ((image * c + channel) * height + row * p + y) * width
          for column in 0..<across {
            let patch = target.advanced(by: ((image * down + row) * across + column) * length + (channel * p + y) * p)
            for x in 0..<p { patch[x] = line[column * p + x] }
          }
        }
      }
    }
  }
}

@inline(__always) private func cutSomePatches<E: Elements>(
  _ images: Tensor<E.Number>, size p: Int, _ tokens: [Int], into target: E
) {
  let (b, c, height, width) = (images.shape[0], images.shape[1], images.shape[2], images.shape[3])
  let (source, down, across, length) = (images.pointer, height / p, width / p, c * p * p)
  precondition(b > 0 && tokens.count % b == 0, "\(tokens.count) tokens of \(b) images")
  let t = tokens.count / b
  Threads.forEach(b) { image in
    for index in 1..<t {
      let place = tokens[image * t + index] - 1
      precondition(place >= 0 && place < down * across, "token \(place + 1) of \(down * across) patches")
      let (row, column) = place.quotientAndRemainder(dividingBy: across)
      let patch = target.advanced(by: (image * (t - 1) + index - 1) * length)
      for channel in 0..<c {
        for y in 0..<p {
          let line = source + ((image * c + channel) * height + row * p + y) * width + column * p
          let part = patch.advanced(by: (channel * p + y) * p)
          for x in 0..<p { part[x] = line[x] }
        }
      }
    }
  }
}

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
  Threads.forEach(output.lines, grain: 4) { line in
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
  Threads.forEach(plane.lines, grain: 4) { line in
    let (image, y) = line.quotientAndRemainder(dividingBy: plane.height)
    let target = q.advanced(by: line * plane.width * c)
    let pooled = y / 2 < output.height ? output.width : 0
    let source = p.advanced(by: (image * output.height + y / 2) * output.width * c)
    for column in 0..<pooled {
      let (from, to) = (source.advanced(by: column * c), target.advanced(by: 2 * column * c))
      let next = to.advanced(by: c)
      for j in 0..<c {
        let share = from[j] * 0.25
        (to[j], next[j]) = (share, share)
      }
    }
    for j in 2 * pooled * c..<plane.width * c { target[j] = 0 }
  }
}
