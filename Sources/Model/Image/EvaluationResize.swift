public import Settings

/// How an evaluation makes a square of n × n pixels of a whole image: `resize_mode`, `interpolation` and `fill_color`
/// of open_clip's `preprocess_cfg`. The default is CLIP's way.
public struct EvaluationResize: Codable, Equatable, Sendable {
  /// How an image that is no square becomes one: open_clip's `resize_mode`.
  public enum Mode: String, CaseIterable, Codable, FieldValue {
    /// The shorter side becomes n and the longer one ⌊n · longer / shorter⌋; the central n × n pixels are kept.
    case shortest
    /// The longer side becomes n, the ratio is kept, and the rest of the square is filled.
    case longest
    /// Both sides become n.
    case squash
  }

  /// The filter by which an image is resized, with open_clip's names.
  public enum Interpolation: String, CaseIterable, Codable, FieldValue {
    case bicubic, bilinear
    /// Either for a training image, by chance; an evaluation's is bicubic.
    case random
  }

  public var mode = Mode.shortest
  public var interpolation = Interpolation.bicubic
  /// Red, green and blue beside an image that does not fill the square.
  public var fillColor: [UInt8] = [0, 0, 0]

  public init() {}

  var filter: ResampleFilter { interpolation == .bilinear ? .bilinear : .bicubic }

  /// Returns the size to which an image of this size is resized, with open_clip's rounding. open_clip refuses an image
  /// so narrow that a side would be less than half a pixel; here it gets one.
  func size(width: Int, height: Int, n: Int) -> (width: Int, height: Int) {
    switch mode {
    case .shortest:
      let long = Int(Double(n * max(width, height)) / Double(min(width, height)))
      return width <= height ? (n, long) : (long, n)
    case .longest:
      let ratio = max(Double(width) / Double(n), Double(height) / Double(n))
      func scaled(_ side: Int) -> Int { max(Int((Double(side) / ratio).rounded(.toNearestOrEven)), 1) }
      return (scaled(width), scaled(height))
    case .squash: return (n, n)
    }
  }
}
