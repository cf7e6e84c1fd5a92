/// The sizes of images whose points are the rows of a matrix, with channels last: point (y, x) of image p is row
/// (p · height + y) · width + x.
public struct Plane: Equatable, Sendable, CustomStringConvertible {
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
  Threads.split(b) { _, images in
    for image in images {
      let (from, to) = (source + image * c * points, target + image * points * c)
      for channel in 0..<c {
        for point in 0..<points { to[point * c + channel] = from[channel * points + point] }
      }
    }
  }
}

/// rows [b·(H/p)·(W/p), c·p·p] ← images [b, c, H, W], cut into patches of p × p points, each a row.
///
/// Patches run along a line of the image first. The elements of a patch have the order of a convolution's weight
/// [w, c, p, p], so that patch embedding is one matrix product. Lines and columns beyond the last whole patch are left
/// out at the right and lower edge, as in a convolution of that stride.
@specialized(where S == Float) @specialized(where S == Double)
public func patches<S: Scalar>(of images: Tensor<S>, size p: Int, into rows: MatrixOperand<S>) {
  let shape = images.shape
  precondition(shape.rank == 4, "images are [b, c, H, W], not \(shape)")
  precondition(
    rows.rows == shape[0] * (shape[2] / p) * (shape[3] / p) && rows.columns == shape[1] * p * p,
    "\(shape) into \(rows.shape)")
  switch rows {
  case .fp32(let rows): cutPatches(images, size: p, into: FP32Elements(rows))
  case .bf16(let rows): cutPatches(images, size: p, into: BFloat16Elements(rows))
  }
}

@inline(__always)
private func cutPatches<E: Elements>(_ images: Tensor<E.Number>, size p: Int, into target: E) {
  let (b, c, height, width) = (images.shape[0], images.shape[1], images.shape[2], images.shape[3])
  let source = images.pointer
  let (down, across) = (height / p, width / p)
  let length = c * p * p
  Threads.split(b) { _, images in
    for image in images {
      for row in 0..<down {
        for channel in 0..<c {
          for y in 0..<p {
            let line = source + ((image * c + channel) * height + row * p + y) * width
            for column in 0..<across {
              let patch = target.advanced(
                by: ((image * down + row) * across + column) * length + (channel * p + y) * p)
              for x in 0..<p { patch[x] = line[column * p + x] }
            }
          }
        }
      }
    }
  }
}
