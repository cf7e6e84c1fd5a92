/// An image of 8-bit RGB pixels, [height, width, 3], stored row by row from the top without gaps. The storage grows to
/// the largest image that was decoded into it and is kept, so that a worker decodes a whole dataset without allocating.
public struct RGBImage: Sendable {
  /// The size in pixels of what is stored.
  public private(set) var width = 0
  public private(set) var height = 0
  /// The size in pixels of the original image, before it was divided by `shrink`.
  private(set) var whole = (width: 0, height: 0)
  /// Each stored pixel stands for a square of `shrink` × `shrink` pixels of the original image: 1, 2, 4 or 8.
  private(set) var shrink = 1
  /// At least width · height · 3 bytes; bytes beyond that are left over from earlier images.
  var storage: [UInt8] = []

  /// Creates an empty image to decode into.
  public init() {}

  /// Creates an image of width × height pixels from their `rgb` bytes, [height, width, 3].
  public init(width: Int, height: Int, rgb: [UInt8]) {
    precondition(width > 0 && height > 0 && rgb.count == width * height * 3, "\(rgb.count) bytes, \(width) × \(height)")
    (self.width, self.height) = (width, height)
    whole = (width, height)
    storage = rgb
  }

  /// The pixels: [height, width, 3].
  public var rgb: [UInt8] { Array(storage.prefix(width * height * 3)) }

  /// Makes room for an image of this size divided by `shrink` and rounded up. Its contents are unspecified afterwards.
  mutating func reshape(width: Int, height: Int, shrink: Int = 1, bytesPerPixel: Int = 3) {
    whole = (width, height)
    self.shrink = shrink
    self.width = (width + shrink - 1) / shrink
    self.height = (height + shrink - 1) / shrink
    let needed = self.width * self.height * bytesPerPixel
    if storage.count < needed { storage = [UInt8](repeating: 0, count: needed) }
  }

  /// Turns the RGBA pixels in the storage into RGB over white, in place, with the rounding of PIL's `alpha_composite`:
  /// colour ← (a · colour + (255 − a) · 255) / 255 in 15.7 fixed point.
  mutating func composeOnWhite() {
    let pixels = width * height
    var bytes = storage.mutableSpan
    for pixel in 0..<pixels {
      let alpha = UInt32(bytes[pixel &* 4 &+ 3])
      let white = (255 &- alpha) &* 128 &* 255
      for channel in 0..<3 {
        // The byte that is written never lies beyond the one that was just read.
        let colour = UInt32(bytes[pixel &* 4 &+ channel])
        let sum = colour &* alpha &* 128 &+ white &+ (0x80 << 7)
        bytes[pixel &* 3 &+ channel] = UInt8(truncatingIfNeeded: ((sum >> 8) &+ sum) >> 15)
      }
    }
  }

  /// Replaces the image by `source` in the middle of n × n pixels of a colour, as open_clip pads it: of an odd number
  /// of columns or rows to fill, one more lies to the right or below.
  mutating func take(_ source: borrowing RGBImage, centeredIn n: Int, on color: [UInt8]) {
    let (width, height) = (source.width, source.height)
    let (left, top) = ((n - width) / 2, (n - height) / 2)
    reshape(width: n, height: n)
    let from = source.storage.span
    var to = storage.mutableSpan
    for y in 0..<n {
      for x in 0..<n {
        let (column, row) = (x - left, y - top)
        let isFilled = !(0..<width ~= column && 0..<height ~= row)
        for channel in 0..<3 {
          to[(y * n + x) * 3 + channel] = isFilled ? color[channel] : from[(row * width + column) * 3 + channel]
        }
      }
    }
  }

  /// Replaces the image by `source`, turned upright.
  mutating func take(_ source: borrowing RGBImage, turned orientation: ImageOrientation) {
    let (w, h) = (source.width, source.height)
    reshape(width: orientation.exchangesSides ? h : w, height: orientation.exchangesSides ? w : h)
    let (width, height) = (self.width, self.height)
    let from = source.storage.span
    var to = storage.mutableSpan
    for y in 0..<height {
      for x in 0..<width {
        // The stored column and row of the pixel that belongs at (x, y).
        let (column, row) =
          switch orientation {
          case .upright: (x, y)
          case .mirrored: (w - 1 - x, y)
          case .upsideDown: (w - 1 - x, h - 1 - y)
          case .flipped: (x, h - 1 - y)
          case .transposed: (y, x)
          case .turnRight: (y, h - 1 - x)
          case .transversed: (w - 1 - y, h - 1 - x)
          case .turnLeft: (w - 1 - y, x)
          }
        for channel in 0..<3 { to[(y * width + x) * 3 + channel] = from[(row * w + column) * 3 + channel] }
      }
    }
  }
}

extension RGBImage: Equatable {
  public static func == (a: RGBImage, b: RGBImage) -> Bool {
    a.width == b.width && a.height == b.height && a.rgb == b.rgb
  }
}
