import Foundation
import Model

/// Small pictures for a page, as data URIs.
struct Thumbnails {
  /// Pixels of the longer side; smaller pictures stay as they are.
  static let side = 160

  private var decoder: ImageDecoder
  private var resampler = Resampler()

  init(_ options: ImageOptions) {
    decoder = ImageDecoder(alpha: options.alpha, exif: options.exif, maxPixels: options.maxPixels)
  }

  /// What `src` of an image says.
  mutating func uri(_ bytes: [UInt8]) throws(ImageError) -> String {
    var picture = try decoder.decode(bytes)
    let longer = max(picture.width, picture.height)
    if longer > Self.side {
      func scaled(_ size: Int) -> Int { max(1, size * Self.side / longer) }
      picture = resampler.resize(picture, width: scaled(picture.width), height: scaled(picture.height))
    }
    return "data:image/webp;base64," + Data(try picture.encoded(as: .webp)).base64EncodedString()
  }
}
