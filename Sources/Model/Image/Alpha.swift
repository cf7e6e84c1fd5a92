extension RGBImage {
  /// Turns the RGBA that its storage holds into RGB over white, in place.
  ///
  /// colour = (a · colour + (255 − a) · 255) / 255 in 15.7 fixed point, the very rounding of PIL's `alpha_composite`.
  mutating func composeOnWhite() {
    let pixels = width * height
    var bytes = storage.mutableSpan
    for pixel in 0..<pixels {
      let alpha = UInt32(bytes[pixel &* 4 &+ 3])
      let white = (255 &- alpha) &* 128 &* 255
      for channel in 0..<3 {
        // The written byte never lies beyond the one just read.
        let colour = UInt32(bytes[pixel &* 4 &+ channel])
        let sum = colour &* alpha &* 128 &+ white &+ (0x80 << 7)
        bytes[pixel &* 3 &+ channel] = UInt8(truncatingIfNeeded: ((sum >> 8) &+ sum) >> 15)
      }
    }
  }
}
