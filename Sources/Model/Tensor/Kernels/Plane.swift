/// Pictures whose points are the rows of a matrix, channels last: point (y, x) of picture p is row
/// (p · height + y) · width + x.
public struct Plane: Equatable, Sendable, CustomStringConvertible {
  public let pictures: Int
  public let height: Int
  public let width: Int

  public init(pictures: Int, height: Int, width: Int) {
    precondition(pictures >= 0 && height >= 0 && width >= 0, "a plane of \(pictures) × \(height) × \(width)")
    self.pictures = pictures
    self.height = height
    self.width = width
  }

  /// Points of all pictures together.
  public var rows: Int { pictures * height * width }
  /// Points of one picture.
  public var points: Int { height * width }
  /// Lines of all pictures together.
  var lines: Int { pictures * height }

  /// What a 3 × 3 convolution with a border of one zero gives that moves by `stride`.
  public func convolved(stride: Int) -> Plane {
    func size(_ n: Int) -> Int { n == 0 ? 0 : (n - 1) / stride + 1 }
    return Plane(pictures: pictures, height: size(height), width: size(width))
  }

  /// What pooling by 2 × 2 gives; an odd line or column at the end is left out.
  public var halved: Plane { Plane(pictures: pictures, height: height / 2, width: width / 2) }

  public var description: String { "\(pictures) pictures of \(height) × \(width)" }
}

/// Pictures [b, c, h, w] to rows [b · h · w, c].
@specialized(where S == Float)
@specialized(where S == Double)
public func channelsLast<S: Scalar>(_ images: Tensor<S>, into rows: Tensor<S>) {
  precondition(images.shape.rank == 4, "pictures are [b, c, h, w], not \(images.shape)")
  let (b, c, points) = (images.shape[0], images.shape[1], images.shape[2] * images.shape[3])
  precondition(rows.rows == b * points && rows.columns == c, "\(images.shape) into \(rows.shape)")
  let (source, target) = (images.pointer, rows.pointer)
  Threads.split(b) { _, pictures in
    for picture in pictures {
      let (from, to) = (source + picture * c * points, target + picture * points * c)
      for channel in 0..<c {
        for point in 0..<points { to[point * c + channel] = from[channel * points + point] }
      }
    }
  }
}
