/// The picture formats that are read.
public enum ImageFormat: String, CaseIterable, Codable, Sendable {
  case jpeg, png, webp

  /// The format's name as people write it.
  public var title: String {
    switch self {
    case .jpeg: "JPEG"
    case .png: "PNG"
    case .webp: "WebP"
    }
  }
}

/// What the header of a picture says, known before any pixel is decoded.
public struct ImageInfo: Equatable, Sendable {
  public let format: ImageFormat
  /// Size as stored, before any orientation is applied.
  public let width: Int
  public let height: Int
  /// Colour components as stored, alpha not counted: 1 gray or palette, 3 colour, 4 CMYK.
  public let channels: Int
  /// Whether pixels may be transparent.
  public let hasAlpha: Bool
  /// How EXIF says that the picture must be turned to stand upright; `.upright` where it says nothing.
  public let orientation: ImageOrientation
}

/// The eight orientations of EXIF: where the stored first row and first column belong.
public enum ImageOrientation: Int, CaseIterable, Sendable {
  case upright = 1
  case mirrored, upsideDown, flipped, transposed, turnRight, transversed, turnLeft

  /// Whether applying it exchanges width and height.
  public var exchangesSides: Bool { rawValue >= Self.transposed.rawValue }
}
