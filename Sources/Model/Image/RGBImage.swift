/// A picture of 8-bit RGB, rows from the top, without gaps: [height, width, 3].
///
/// Storage grows to the largest picture that was ever put in and stays, so one value per worker decodes a whole
/// corpus without allocating.
public struct RGBImage: Sendable {
  public private(set) var width = 0
  public private(set) var height = 0
  /// Width and height of the whole picture, of which `shrink` × `shrink` pixels were made one; else the same.
  private(set) var whole = (width: 0, height: 0)
  private(set) var shrink = 1
  /// At least width · height · 3 bytes; what lies beyond is left over from earlier pictures.
  var storage: [UInt8] = []

  /// An empty picture to decode into.
  public init() {}

  /// A picture of the given bytes, width · height · 3 of them.
  public init(width: Int, height: Int, rgb: [UInt8]) {
    precondition(width > 0 && height > 0 && rgb.count == width * height * 3, "\(rgb.count) bytes, \(width) × \(height)")
    self.width = width
    self.height = height
    whole = (width, height)
    storage = rgb
  }

  /// The pixels: [height, width, 3].
  public var rgb: [UInt8] { Array(storage.prefix(width * height * 3)) }

  /// Makes room for a picture of this size, divided by `shrink` and rounded up, with at least `bytesPerPixel` bytes a
  /// pixel; the contents are unspecified.
  mutating func reshape(width: Int, height: Int, shrink: Int = 1, bytesPerPixel: Int = 3) {
    whole = (width, height)
    self.shrink = shrink
    self.width = (width + shrink - 1) / shrink
    self.height = (height + shrink - 1) / shrink
    let needed = self.width * self.height * bytesPerPixel
    if storage.count < needed { storage = [UInt8](repeating: 0, count: needed) }
  }
}

extension RGBImage: Equatable {
  public static func == (a: RGBImage, b: RGBImage) -> Bool {
    a.width == b.width && a.height == b.height && a.rgb == b.rgb
  }
}
