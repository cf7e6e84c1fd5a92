import Model
import Testing

/// Decoded pixels equal those of PIL for every image of the golden set.
@Suite struct ImageDecodeGoldenTests {
  let golden: ImageGoldenSet
  init() throws { golden = try ImageGoldenSet() }

  @Test func headers() throws {
    for name in golden.names {
      let expected = try #require(golden.meta.images[name])
      let info = try ImageDecoder.probe(golden.file(name))
      #expect(info.width == expected.width && info.height == expected.height, "\(name)")
      #expect(expected.kind.hasPrefix(info.format.rawValue), "\(name) is \(info.format)")
      #expect(info.orientation.rawValue == expected.exifOrientation ?? 1, "\(name)")
      #expect(try info.hasAlpha == (golden.shape("\(name)/rgb_on_white") != nil), "\(name)")
    }
  }

  @Test func alphaDropped() throws { try compare("rgb", alpha: .drop, exif: .ignore, everywhere: true) }

  @Test func alphaOnWhite() throws { try compare("rgb_on_white", alpha: .white, exif: .ignore) }

  @Test func exifApplied() throws { try compare("rgb_exif_applied", alpha: .drop, exif: .apply) }

  /// Compares every image that has a tensor named `role` with that tensor.
  private func compare(_ role: String, alpha: AlphaHandling, exif: ExifHandling, everywhere: Bool = false) throws {
    var decoder = ImageDecoder(alpha: alpha, exif: exif)
    var image = RGBImage()
    var compared = 0
    for name in golden.names {
      guard let expected = try golden.bytes("\(name)/\(role)") else {
        #expect(!everywhere, "\(name) has no \(role)")
        continue
      }
      try decoder.decode(golden.file(name), into: &image)
      #expect(try [image.height, image.width, 3] == golden.shape("\(name)/\(role)"), "\(name)")
      let worst = zip(image.rgb, expected).map { abs(Int($0) - Int($1)) }.max()
      #expect(worst == 0, "\(name): \(role) differs by up to \(worst ?? -1) grey levels")
      compared += 1
    }
    #expect(compared > 0, "the golden set has no image with \(role)")
  }
}
