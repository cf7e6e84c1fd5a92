/// Why a picture cannot be prepared.
public enum ImageError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The bytes begin like no known format.
  case unknownFormat(bytes: Int)
  /// The header announces more pixels than the limit; nothing was decoded.
  case tooManyPixels(format: ImageFormat, width: Int, height: Int, limit: Int)
  /// The file is cut or damaged.
  case damaged(format: ImageFormat, reason: String)
  /// A sound file of a kind that is not read.
  case unsupported(format: ImageFormat, reason: String)
  /// An option is out of its range.
  case invalidOption(name: String, found: String, expected: String)

  public var description: String {
    switch self {
    case .unknownFormat(let bytes):
      "not a picture: \(bytes) bytes that begin like no JPEG, PNG or WebP file; convert it to one of these"
    case .tooManyPixels(let format, let width, let height, let limit):
      "\(format.title) picture of \(width) × \(height) pixels, the limit is \(limit) pixels; "
        + "shrink it or raise image.max_pixels"
    case .damaged(let format, let reason):
      "damaged \(format.title) picture: \(reason); leave it out or fetch it again"
    case .unsupported(let format, let reason):
      "\(format.title) picture of a kind that is not read: \(reason); convert it to a plain picture"
    case .invalidOption(let name, let found, let expected):
      "image.\(name) is \(found), expected \(expected)"
    }
  }
}
