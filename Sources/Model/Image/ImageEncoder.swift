internal import CImage
internal import Foundation

extension RGBImage {
  /// The picture as a file.
  ///
  /// JPEG, with colours at half the resolution, and WebP lose what `quality`, 1 … 100, lets them; PNG loses nothing.
  /// Throws `unsupported` where the picture is larger than the format allows.
  public func encoded(as format: ImageFormat, quality: Int = 85) throws(ImageError) -> [UInt8] {
    precondition(width > 0 && height > 0 && 1...100 ~= quality, "\(width) × \(height) in quality \(quality)")
    let number =
      switch format {
      case .jpeg: Int32(CIMAGE_JPEG.rawValue)
      case .png: Int32(CIMAGE_PNG.rawValue)
      case .webp: Int32(CIMAGE_WEBP.rawValue)
      }
    var file: UnsafeMutablePointer<UInt8>?
    var count = 0
    var reason = ""
    let status = unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(CIMAGE_TEXT_CAPACITY)) { text in
      unsafe text.initialize(repeating: 0)
      let status = unsafe storage.withUnsafeBufferPointer { pixels in
        unsafe cimage_encode(
          number, pixels.baseAddress, UInt32(width), UInt32(height), Int32(quality), &file, &count, text.baseAddress)
      }
      if status != 0, let base = text.baseAddress { unsafe reason = String(cString: base) }
      return status
    }
    guard status == 0 else { throw .unsupported(format: format, reason: reason) }
    defer { unsafe free(file) }
    return unsafe Array(UnsafeBufferPointer(start: file, count: count))
  }
}
