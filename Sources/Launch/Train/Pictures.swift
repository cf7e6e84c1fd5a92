import Tensor

extension Tensor {
  /// Consecutive pictures of [b, channels, height, width].
  func pictures(_ range: Range<Int>) -> Tensor {
    let (channels, height, width) = (shape[1], shape[2], shape[3])
    let length = channels * height * width
    return slice(range.lowerBound * length..<range.upperBound * length)
      .reshaped(Shape(range.count, channels, height, width))
  }
}
