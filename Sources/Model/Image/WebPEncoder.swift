internal import CImage

extension RGBImage {
  /// The picture as a WebP file, lossy; nil where it has a side of more than 16,383 pixels.
  ///
  /// - Parameter quality: 0 to 100.
  public func webP(quality: Float) -> [UInt8]? {
    precondition((0...100).contains(quality), "quality \(quality), expected 0 to 100")
    guard width > 0, height > 0, width < 1 << 14, height < 1 << 14 else { return nil }
    let capacity = width * height * 3 + 4096
    let file = unsafe [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
      unsafe storage.withUnsafeBufferPointer { pixels in
        unsafe count = cimage_encode_webp(
          pixels.baseAddress, UInt32(width), UInt32(height), quality, buffer.baseAddress, capacity)
      }
    }
    return file.isEmpty ? nil : file
  }
}
