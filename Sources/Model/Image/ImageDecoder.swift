internal import CImage

/// What becomes of transparency.
public enum AlphaHandling: String, CaseIterable, Codable, Sendable {
  /// Composed on white, as a page or a phone shows it.
  case white
  /// Left out: the colours stored under the transparency show, as `convert("RGB")` of PIL and open_clip have it.
  case drop
}

/// What becomes of the orientation that EXIF gives.
public enum ExifHandling: String, CaseIterable, Codable, Sendable {
  /// The picture is turned upright.
  case apply
  /// The picture stays as stored, as in open_clip.
  case ignore
}

/// Turns the bytes of JPEG, PNG and WebP files into RGB.
///
/// Pixels equal those of PIL with `convert("RGB")`, with one exception: 16-bit gray keeps its upper 8 bits, where PIL
/// saturates. A cut file is an error and never half a picture. One decoder serves one thread; it keeps its scratch.
public struct ImageDecoder: Sendable {
  /// Larger pictures are refused from their header, before memory is taken.
  public let maxPixels: Int
  public let alpha: AlphaHandling
  public let exif: ExifHandling
  /// Receives the turned picture, then changes places with the caller's.
  private var spare = RGBImage()

  /// 50 million pixels: 200 MB while decoding, 500 MB for a progressive JPEG.
  public static let defaultMaxPixels = 50_000_000

  public init(
    alpha: AlphaHandling = .white, exif: ExifHandling = .ignore, maxPixels: Int = ImageDecoder.defaultMaxPixels
  ) {
    self.alpha = alpha
    self.exif = exif
    self.maxPixels = maxPixels
  }

  /// What the header says; no pixel is decoded and no size is refused.
  public static func probe(_ bytes: [UInt8]) throws(ImageError) -> ImageInfo {
    let header = try self.header(bytes)
    let format = format(header)
    return ImageInfo(
      format: format, width: Int(header.width), height: Int(header.height), channels: Int(header.channels),
      hasAlpha: header.has_alpha != 0, orientation: ImageOrientation.read(format: format, bytes: bytes.span))
  }

  /// The picture in a new value.
  public mutating func decode(_ bytes: [UInt8]) throws(ImageError) -> RGBImage {
    var image = RGBImage()
    try decode(bytes, into: &image)
    return image
  }

  /// Decodes into `image`, whose storage is reused; after an error its contents are unspecified.
  public mutating func decode(_ bytes: [UInt8], into image: inout RGBImage) throws(ImageError) {
    try decode(bytes, into: &image) { _, _ in 1 }
  }

  /// Decodes a picture, or a smaller one of it where its format can give that for less work.
  ///
  /// - Parameter shrink: is asked for 1, 2, 4 or 8, given width and height of the picture. Only a JPEG that stays as
  ///   it is stored can be shrunk; others are not asked about.
  mutating func decode(
    _ bytes: [UInt8], into image: inout RGBImage, shrink: (_ width: Int, _ height: Int) -> Int
  ) throws(ImageError) {
    let header = try Self.header(bytes)
    let format = Self.format(header)
    let (width, height) = (Int(header.width), Int(header.height))
    guard width * height <= maxPixels else {
      throw .tooManyPixels(format: format, width: width, height: height, limit: maxPixels)
    }
    let orientation =
      exif == .apply ? ImageOrientation.read(format: format, bytes: bytes.span) : .upright
    let shrink = format == .jpeg && orientation == .upright ? shrink(width, height) : 1
    let blend = alpha == .white && header.has_alpha != 0
    image.reshape(width: width, height: height, shrink: shrink, bytesPerPixel: blend ? 4 : 3)
    try Self.pixels(bytes, header, format, blend, shrink, &image.storage)
    if blend { image.composeOnWhite() }
    if orientation != .upright {
      spare.take(image, turned: orientation)
      swap(&spare, &image)
    }
  }
}

// The only calls into the C border.
extension ImageDecoder {
  private static func header(_ bytes: [UInt8]) throws(ImageError) -> cimage_info {
    var info = cimage_info()
    let (status, reason) = unsafe explained { text in
      unsafe bytes.withUnsafeBufferPointer { input in
        unsafe cimage_probe(input.baseAddress, input.count, &info, text)
      }
    }
    if let error = error(status, reason, format(info), bytes.count) { throw error }
    return info
  }

  private static func pixels(
    _ bytes: [UInt8], _ header: cimage_info, _ format: ImageFormat, _ alpha: Bool, _ shrink: Int,
    _ storage: inout [UInt8]
  ) throws(ImageError) {
    var info = header
    let (status, reason) = unsafe explained { text in
      unsafe bytes.withUnsafeBufferPointer { input in
        unsafe storage.withUnsafeMutableBufferPointer { output in
          unsafe cimage_decode(
            input.baseAddress, input.count, &info, alpha ? 1 : 0, UInt32(shrink), output.baseAddress, output.count, text
          )
        }
      }
    }
    if let error = error(status, reason, format, bytes.count) { throw error }
  }

  /// Lends the C side room for a message.
  private static func explained(_ body: (UnsafeMutablePointer<CChar>) -> Int32) -> (Int32, String) {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(CIMAGE_TEXT_CAPACITY)) { text in
      unsafe text.initialize(repeating: 0)
      let base = text.baseAddress!
      let status = unsafe body(base)
      return (status, status == 0 ? "" : unsafe String(cString: base))
    }
  }

  private static func format(_ info: cimage_info) -> ImageFormat {
    switch info.format {
    case Int32(CIMAGE_JPEG.rawValue): .jpeg
    case Int32(CIMAGE_PNG.rawValue): .png
    default: .webp
    }
  }

  private static func error(_ status: Int32, _ reason: String, _ format: ImageFormat, _ count: Int) -> ImageError? {
    switch UInt32(status) {
    case CIMAGE_OK.rawValue: nil
    case CIMAGE_UNKNOWN_FORMAT.rawValue: .unknownFormat(bytes: count)
    case CIMAGE_DAMAGED.rawValue: .damaged(format: format, reason: reason)
    case CIMAGE_UNSUPPORTED.rawValue: .unsupported(format: format, reason: reason)
    default: preconditionFailure("CImage was called wrongly: \(reason)")
    }
  }
}
