/// The image file formats that can be read and written.
public enum ImageFormat: String, CaseIterable, Codable, Sendable {
  case jpeg, png, webp

  /// The format's name as people write it.
  public var title: String { self == .webp ? "WebP" : rawValue.uppercased() }
}

/// The contents of an image's header, which are known before any pixel is decoded.
public struct ImageInfo: Equatable, Sendable {
  public let format: ImageFormat
  /// The size in pixels as stored, before any orientation is applied.
  public let width: Int
  public let height: Int
  /// The number of colour components as stored, without alpha: 1 for gray or a palette, 3 for colour, 4 for CMYK.
  public let channels: Int
  /// True if pixels may be transparent.
  public let hasAlpha: Bool
  /// The EXIF orientation; `.upright` if the file has none.
  public let orientation: ImageOrientation
}

/// The reasons why an image cannot be decoded, prepared or encoded.
public enum ImageError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The bytes start with the signature of no known format.
  case unknownFormat(bytes: Int)
  /// The header announces more pixels than the limit; nothing was decoded.
  case tooManyPixels(format: ImageFormat, width: Int, height: Int, limit: Int)
  /// The file is truncated or damaged.
  case damaged(format: ImageFormat, reason: String)
  /// The file is intact, but of a kind that is not supported.
  case unsupported(format: ImageFormat, reason: String)
  /// An option is out of its range.
  case invalidOption(name: String, found: String, expected: String)

  public var description: String {
    switch self {
    case .unknownFormat(let bytes):
      "not an image: its \(bytes) bytes do not start like a JPEG, PNG or WebP file; convert it to one of these"
    case .tooManyPixels(let format, let width, let height, let limit):
      "\(format.title) image of \(width) × \(height) pixels, the limit is \(limit) pixels; "
        + "shrink it or raise image.max_pixels"
    case .damaged(let format, let reason):
      "damaged \(format.title) image: \(reason); leave it out or fetch it again"
    case .unsupported(let format, let reason):
      "unsupported \(format.title) image: \(reason); convert it to a plain image"
    case .invalidOption(let name, let found, let expected):
      "image.\(name) is \(found), expected \(expected)"
    }
  }
}
