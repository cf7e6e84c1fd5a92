/// Cuts pictures into patches, each a row: images [b, c, H, W] → patches [b·(H/p)·(W/p), c·p·p].
///
/// Patches run along a row of the picture first, and a patch's elements in the order of a convolution's weight
/// [w, c, p, p], so that patch embedding is one matrix product. What the patch size does not divide is left out at the
/// right and lower edge, as a convolution of that stride does.
@specialized(where S == Float)
@specialized(where S == Double)
public func patches<S: Scalar>(of images: Tensor<S>, size p: Int, into rows: Operand<S>) {
  precondition(images.shape.rank == 4, "pictures are [b, c, H, W], not \(images.shape)")
  let (b, c, height, width) = (images.shape[0], images.shape[1], images.shape[2], images.shape[3])
  precondition(
    rows.rows == b * (height / p) * (width / p) && rows.columns == c * p * p, "\(images.shape) into \(rows.shape)")
  switch rows {
  case .exact(let rows): cutPatches(images.pointer, b, c, height, width, p, into: ExactElements(rows))
  case .rounded(let rows): cutPatches(images.pointer, b, c, height, width, p, into: RoundedElements(rows))
  }
}

@inline(__always)
private func cutPatches<E: Elements>(
  _ source: UnsafeMutablePointer<E.Number>, _ b: Int, _ c: Int, _ height: Int, _ width: Int, _ p: Int, into target: E
) {
  let (down, across) = (height / p, width / p)
  let length = c * p * p
  Threads.split(b) { _, pictures in
    for picture in pictures {
      for row in 0..<down {
        for channel in 0..<c {
          for y in 0..<p {
            let line = source + ((picture * c + channel) * height + row * p + y) * width
            for column in 0..<across {
              let patch = target.advanced(
                by: ((picture * down + row) * across + column) * length + (channel * p + y) * p)
              for x in 0..<p { patch[x] = line[column * p + x] }
            }
          }
        }
      }
    }
  }
}
