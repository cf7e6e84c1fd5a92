/// Cuts pictures into patches, each a row: images [b, c, H, W] → patches [b·(H/p)·(W/p), c·p·p].
///
/// Patches run along a row of the picture first, and a patch's elements in the order of a convolution's weight
/// [w, c, p, p], so that patch embedding is one matrix product. What the patch size does not divide is left out at the
/// right and lower edge, as a convolution of that stride does.
public func patches<S: Scalar>(of images: Tensor<S>, size p: Int, into rows: Tensor<S>) {
  precondition(images.shape.rank == 4, "pictures are [b, c, H, W], not \(images.shape)")
  let (b, c, height, width) = (images.shape[0], images.shape[1], images.shape[2], images.shape[3])
  let (down, across) = (height / p, width / p)
  let length = c * p * p
  precondition(rows.rows == b * down * across && rows.columns == length, "\(images.shape) into \(rows.shape)")
  let (source, target) = (images.pointer, rows.pointer)
  Threads.split(b) { _, pictures in
    for picture in pictures {
      for row in 0..<down {
        for channel in 0..<c {
          for y in 0..<p {
            let line = source + ((picture * c + channel) * height + row * p + y) * width
            for column in 0..<across {
              let patch = target + ((picture * down + row) * across + column) * length
              (patch + (channel * p + y) * p).update(from: line + column * p, count: p)
            }
          }
        }
      }
    }
  }
}
