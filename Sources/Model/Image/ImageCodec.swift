internal import CImage
internal import Foundation

/// Decodes JPEG, PNG and WebP files to RGB.
///
/// Pixels equal those of PIL with `convert("RGB")`, but 16-bit gray keeps its upper 8 bits, where PIL saturates. A
/// truncated file is an error, never half an image. A decoder keeps buffers and must be used by one thread at a time.
public struct ImageDecoder: Sendable {
  /// Images of more pixels are refused after their header is read, before any memory is allocated for them.
  public let maxPixels: Int
  public let alpha: AlphaHandling
  public let exif: ExifHandling
  /// Receives the turned image, and is then swapped with the caller's.
  private var spare = RGBImage()
  /// 50 million pixels take 200 MB while they are decoded, or 500 MB from a progressive JPEG.
  public static let defaultMaxPixels = 50_000_000

  public init(
    alpha: AlphaHandling = .white, exif: ExifHandling = .ignore, maxPixels: Int = ImageDecoder.defaultMaxPixels
  ) {
    (self.alpha, self.exif, self.maxPixels) = (alpha, exif, maxPixels)
  }

  /// Reads an image's header without decoding any pixels or refusing any size.
  public static func probe(_ bytes: [UInt8]) throws(ImageError) -> ImageInfo {
    let header = try self.header(bytes)
    let format = format(header)
    return ImageInfo(
      format: format, width: Int(header.width), height: Int(header.height), channels: Int(header.channels),
      hasAlpha: header.has_alpha != 0, orientation: ImageOrientation.read(format: format, bytes: bytes.span))
  }

  /// Decodes an image file into a new image. Throws `ImageError`, of any case but `invalidOption`.
  public mutating func decode(_ bytes: [UInt8]) throws(ImageError) -> RGBImage {
    var image = RGBImage()
    try decode(bytes, into: &image)
    return image
  }

  /// Decodes an image file into `image`, whose storage is reused. After an error its contents are unspecified.
  public mutating func decode(_ bytes: [UInt8], into image: inout RGBImage) throws(ImageError) {
    try decode(bytes, into: &image) { _, _ in 1 }
  }

  /// Decodes an image file at its full size, or at a fraction of it where the format makes that cheaper: `shrink` gives
  /// the divisor of the size, 1, 2, 4 or 8. It is only called for a JPEG that stays as it is stored.
  mutating func decode(
    _ bytes: [UInt8], into image: inout RGBImage, shrink: (_ width: Int, _ height: Int) -> Int
  ) throws(ImageError) {
    let header = try Self.header(bytes)
    let format = Self.format(header)
    let (width, height) = (Int(header.width), Int(header.height))
    guard width * height <= maxPixels else {
      throw .tooManyPixels(format: format, width: width, height: height, limit: maxPixels)
    }
    let orientation = exif == .apply ? ImageOrientation.read(format: format, bytes: bytes.span) : .upright
    let shrink = format == .jpeg && orientation == .upright ? shrink(width, height) : 1
    let blend = alpha == .white && header.has_alpha != 0
    image.reshape(width: width, height: height, shrink: shrink, bytesPerPixel: blend ? 4 : 3)
    try Self.pixels(bytes, header, withAlpha: blend, shrink: shrink, into: &image.storage)
    if blend { image.composeOnWhite() }
    if orientation != .upright {
      spare.take(image, turned: orientation)
      swap(&spare, &image)
    }
  }
}

extension RGBImage {
  /// Encodes the image as a file. PNG is lossless. JPEG, which stores chroma at half the resolution, and WebP lose more
  /// detail the lower `quality` is, from 1 to 100. Throws `ImageError.unsupported` if the format cannot hold its size.
  public func encoded(as format: ImageFormat, quality: Int = 85) throws(ImageError) -> [UInt8] {
    precondition(width > 0 && height > 0 && 1...100 ~= quality, "\(width) × \(height) in quality \(quality)")
    var file: UnsafeMutablePointer<UInt8>?
    var count = 0
    let (status, reason) = unsafe ImageDecoder.explained { text in
      unsafe storage.withUnsafeBufferPointer { pixels in
        unsafe cimage_encode(
          format.code, pixels.baseAddress, UInt32(width), UInt32(height), Int32(quality), &file, &count, text)
      }
    }
    guard status == 0 else { throw .unsupported(format: format, reason: reason) }
    defer { unsafe free(file) }
    return unsafe Array(UnsafeBufferPointer(start: file, count: count))
  }
}

extension ImageFormat {
  /// The format's number on the C side.
  fileprivate var code: Int32 {
    switch self {
    case .jpeg: Int32(CIMAGE_JPEG.rawValue)
    case .png: Int32(CIMAGE_PNG.rawValue)
    case .webp: Int32(CIMAGE_WEBP.rawValue)
    }
  }
}

// With `encoded` above, these are the only calls into the C border.
extension ImageDecoder {
  private static func header(_ bytes: [UInt8]) throws(ImageError) -> cimage_info {
    var info = cimage_info()
    let (status, reason) = unsafe explained { text in
      unsafe bytes.withUnsafeBufferPointer { input in
        unsafe cimage_probe(input.baseAddress, input.count, &info, text)
      }
    }
    try check(status, reason, format(info), bytes: bytes.count)
    return info
  }

  /// Decodes the pixels of an image with this header, [height, width, 3], or 4 bytes a pixel with alpha.
  private static func pixels(
    _ bytes: [UInt8], _ header: cimage_info, withAlpha: Bool, shrink: Int, into storage: inout [UInt8]
  ) throws(ImageError) {
    var info = header
    let (status, reason) = unsafe explained { text in
      unsafe bytes.withUnsafeBufferPointer { input in
        unsafe storage.withUnsafeMutableBufferPointer { output in
          unsafe cimage_decode(
            input.baseAddress, input.count, &info, withAlpha ? 1 : 0, UInt32(shrink), output.baseAddress, output.count,
            text)
        }
      }
    }
    try check(status, reason, format(info), bytes: bytes.count)
  }

  /// Lends the C side room for a message, and returns its status with that message, which is empty on success.
  fileprivate static func explained(_ body: (UnsafeMutablePointer<CChar>) -> Int32) -> (Int32, String) {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(CIMAGE_TEXT_CAPACITY)) { text in
      unsafe text.initialize(repeating: 0)
      let base = text.baseAddress!
      let status = unsafe body(base)
      return (status, status == 0 ? "" : unsafe String(cString: base))
    }
  }

  private static func format(_ info: cimage_info) -> ImageFormat {
    ImageFormat.allCases.first { $0.code == info.format } ?? .webp
  }

  private static func check(_ status: Int32, _ reason: String, _ format: ImageFormat, bytes: Int) throws(ImageError) {
    switch UInt32(status) {
    case CIMAGE_OK.rawValue: return
    case CIMAGE_UNKNOWN_FORMAT.rawValue: throw .unknownFormat(bytes: bytes)
    case CIMAGE_DAMAGED.rawValue: throw .damaged(format: format, reason: reason)
    case CIMAGE_UNSUPPORTED.rawValue: throw .unsupported(format: format, reason: reason)
    default: preconditionFailure("CImage was called wrongly: \(reason)")
    }
  }
}
