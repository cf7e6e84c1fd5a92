import Model
import Testing

/// WebP files that we make, read back by the decoder.
@Suite struct ImageEncodeTests {
  private func picture(_ width: Int, _ height: Int) -> RGBImage {
    let rgb = (0..<width * height).flatMap { at in
      let (x, y) = (at % width, at / width)
      return [UInt8(x * 255 / width), UInt8(y * 255 / height), x > width / 2 ? 200 : 30]
    }
    return RGBImage(width: width, height: height, rgb: rgb)
  }

  @Test(arguments: [(1, 1), (3, 2), (160, 97), (1, 200), (333, 5)]) func aPictureComesBack(width: Int, height: Int)
    throws
  {
    let original = picture(width, height)
    let file = try #require(original.webP(quality: 90))
    #expect(try ImageDecoder.probe(file).format == .webp)
    var decoder = ImageDecoder()
    let decoded = try decoder.decode(file)
    #expect(decoded.width == width && decoded.height == height)
    let errors = zip(decoded.rgb, original.rgb).map { abs(Int($0) - Int($1)) }
    // Of few pixels neighbours share their colours.
    #expect(width * height < 100 || Double(errors.reduce(0, +)) / Double(errors.count) < 6, "\(errors.max() ?? 0)")
    #expect(width * height < 1000 || file.count < original.rgb.count / 4)
  }

  @Test func qualityCostsBytes() throws {
    let original = picture(160, 160)
    #expect(try #require(original.webP(quality: 20)).count < #require(original.webP(quality: 95)).count)
  }

  @Test func whatWebPCannotHold() {
    #expect(RGBImage().webP(quality: 85) == nil && picture(1 << 14, 1).webP(quality: 85) == nil)
    #expect(picture((1 << 14) - 1, 1).webP(quality: 85) != nil)
  }
}
