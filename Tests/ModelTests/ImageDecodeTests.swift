import Foundation
import Model
import Testing

/// Decodes every kind of image file, from files that the tests write byte by byte.
@Suite struct ImageDecodeTests {
  private func decode(
    _ bytes: [UInt8], alpha: AlphaHandling = .drop, exif: ExifHandling = .ignore
  ) throws -> RGBImage {
    var decoder = ImageDecoder(alpha: alpha, exif: exif)
    return try decoder.decode(bytes)
  }

  @Test func color() throws {
    let png = ImagePNG(width: 5, height: 3) { x, y, c in UInt8(40 * x + 10 * y + c) }
    let image = try decode(png.bytes)
    #expect(image.width == 5 && image.height == 3 && image.rgb == png.rows.flatMap { $0 })
    let info = try ImageDecoder.probe(png.bytes)
    #expect(info.format == .png && info.width == 5 && info.height == 3 && info.channels == 3 && !info.hasAlpha)
  }

  @Test func grayIsRepeated() throws {
    let png = ImagePNG(width: 4, height: 4, kind: .gray) { x, y, _ in UInt8(60 * x + y) }
    #expect(try decode(png.bytes).rgb == png.rows.flatMap { $0.flatMap { [$0, $0, $0] } })
    #expect(try ImageDecoder.probe(png.bytes).channels == 1)
  }

  @Test(arguments: [1, 2, 4]) func fewBitsAreSpread(depth: Int) throws {
    var png = ImagePNG(width: 8 / depth, height: 1, kind: .gray) { _, _, _ in 0 }
    png.depth = depth
    png.rows = [[0b1011_0010]]
    let top = (1 << depth) - 1
    let expected = (0..<8 / depth).map { (0b1011_0010 >> (8 - depth * ($0 + 1)) & top) * 255 / top }
    #expect(try decode(png.bytes).rgb == expected.flatMap { [UInt8($0), UInt8($0), UInt8($0)] })
  }

  @Test(arguments: ImagePNG.Kind.allCases.filter { $0 != .palette }) func sixteenBitsKeepTheirUpperHalf(
    kind: ImagePNG.Kind
  ) throws {
    var png = ImagePNG(width: 3, height: 2, kind: kind) { x, y, c in UInt8(70 * x + 9 * y + c) }
    let narrow = try decode(png.bytes)
    png.depth = 16
    png.rows = png.rows.map { $0.flatMap { [$0, 0xFF] } }
    #expect(try decode(png.bytes) == narrow)
  }

  @Test func palette() throws {
    var png = ImagePNG(width: 3, height: 1, kind: .palette) { x, _, _ in UInt8(2 - x) }
    png.chunks = [("PLTE", [10, 20, 30, 40, 50, 60, 70, 80, 90]), ("tRNS", [255, 0])]
    #expect(try ImageDecoder.probe(png.bytes).hasAlpha)
    #expect(try decode(png.bytes).rgb == [70, 80, 90, 40, 50, 60, 10, 20, 30])
    #expect(try decode(png.bytes, alpha: .white).rgb == [70, 80, 90, 255, 255, 255, 10, 20, 30])
  }

  @Test func transparentColor() throws {
    var png = ImagePNG(width: 3, height: 1) { x, _, c in UInt8(50 * x + c) }
    png.chunks = [("tRNS", [0, 50, 0, 51, 0, 52])]
    #expect(try decode(png.bytes).rgb == [0, 1, 2, 50, 51, 52, 100, 101, 102])
    #expect(try decode(png.bytes, alpha: .white).rgb == [0, 1, 2, 255, 255, 255, 100, 101, 102])
  }

  /// The result is (colour · a + 255 · (255 − a)) / 255, rounded to the nearest level, for every colour and alpha.
  @Test func everyAlphaOnWhite() throws {
    let png = ImagePNG(width: 256, height: 256, kind: .colorAlpha) { x, y, c in
      c == 3 ? UInt8(y) : UInt8((x + 85 * c) % 256)
    }
    let image = try decode(png.bytes, alpha: .white)
    let worst = zip(image.rgb.indices, image.rgb).map { at, found in
      let (x, y, c) = (at / 3 % 256, at / 768, at % 3)
      return abs(Double(found) - Double((x + 85 * c) % 256 * y + 255 * (255 - y)) / 255)
    }.max()
    #expect(try #require(worst) < 0.51)
  }

  @Test func alphaOfGray() throws {
    let png = ImagePNG(width: 3, height: 1, kind: .grayAlpha) { x, _, c in c == 0 ? 100 : [0, 255, 128][x] }
    #expect(try decode(png.bytes).rgb == [UInt8](repeating: 100, count: 9))
    #expect(try decode(png.bytes, alpha: .white).rgb == [255, 255, 255, 100, 100, 100, 177, 177, 177])
  }

  @Test func interlaced() throws {
    let plain = ImagePNG(width: 11, height: 9, kind: .colorAlpha) { x, y, c in UInt8((20 * x + 3 * y + 50 * c) % 256) }
    var png = plain
    png.interlaced = true
    png.rows = []
    for (x0, y0, dx, dy) in [
      (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ] {
      for y in stride(from: y0, to: 9, by: dy) {
        png.rows.append(stride(from: x0, to: 11, by: dx).flatMap { plain.rows[y][$0 * 4..<$0 * 4 + 4] })
      }
    }
    #expect(try decode(png.bytes) == decode(plain.bytes))
    #expect(try decode(png.bytes, alpha: .white) == decode(plain.bytes, alpha: .white))
  }

  /// A uniform 8 × 8 CMYK file as PIL writes it (inks 40, 90, 160, 30) decodes to the colour that PIL reads from it.
  @Test func inks() throws {
    let file = try base64(
      """
      /9j/7gAOQWRvYmUAZAAAAAAA/9sAQwADAgIDAgIDAwMDBAMDBAUIBQUEBAUKBwcGCAwKDAwLCgsLDQ4SEA0OEQ4LCxAWEBETFBUVFQwPFxgW
      FBgSFBUU/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAcICf/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAOBEMA
      TQBZAEsAAD8AugxidoG//9k=
      """)
    #expect(try ImageDecoder.probe(file).channels == 4)
    #expect(try decode(file).rgb == (0..<64).flatMap { _ in [190, 146, 84] as [UInt8] })
  }

  @Test func webpWithAlpha() throws {
    let file = try base64("UklGRh4AAABXRUJQVlA4TBEAAAAvAkAAEAdQsiJXpoCBiOh/AAA=")
    let info = try ImageDecoder.probe(file)
    #expect(info.format == .webp && info.width == 3 && info.height == 2 && info.hasAlpha)
    #expect(try decode(file).rgb == (0..<6).flatMap { _ in [200, 100, 50] as [UInt8] })
    #expect(try decode(file, alpha: .white).rgb == (0..<6).flatMap { _ in [227, 177, 152] as [UInt8] })
  }

  @Test func animationIsRefused() throws {
    let file = try base64(
      """
      UklGRoQAAABXRUJQVlA4WAoAAAACAAAAAwAAAwAAQU5JTQYAAAAAAAAAAABBTk1GKAAAAAAAAAAAAAMAAAMAAAAAAAJWUDhMDwAAAC8DwAAA
      BxD9j/4HIqL/AQBBTk1GKAAAAAAAAAAAAAMAAAMAAAAAAABWUDhMDwAAAC8DwAAABxDR//4HIqL/AQA=
      """)
    #expect(throws: ImageError.unsupported(format: .webp, reason: "an animation; only still images are read")) {
      try decode(file)
    }
  }

  /// The pixels of a 2 × 3 image move as the EXIF standard says.
  @Test(arguments: [
    (1, [0, 1, 2, 3, 4, 5]), (2, [1, 0, 3, 2, 5, 4]), (3, [5, 4, 3, 2, 1, 0]), (4, [4, 5, 2, 3, 0, 1]),
    (5, [0, 2, 4, 1, 3, 5]), (6, [4, 2, 0, 5, 3, 1]), (7, [5, 3, 1, 4, 2, 0]), (8, [1, 3, 5, 0, 2, 4]),
  ]) func orientation(value: Int, order: [UInt8]) throws {
    var png = ImagePNG(width: 2, height: 3, kind: .gray) { x, y, _ in UInt8(2 * y + x) }
    png.chunks = [ImagePNG.exif(value)]
    #expect(try ImageDecoder.probe(png.bytes).orientation.rawValue == value)
    let stored = try decode(png.bytes, exif: .ignore)
    #expect(stored.width == 2 && stored.rgb == [0, 1, 2, 3, 4, 5].flatMap { [$0, $0, $0] })
    let turned = try decode(png.bytes, exif: .apply)
    #expect(turned.width == (value >= 5 ? 3 : 2) && turned.rgb == order.flatMap { [$0, $0, $0] })
  }

  /// A small image decoded into the storage of a large one shows nothing of it.
  @Test func storageIsReused() throws {
    var decoder = ImageDecoder(alpha: .white, exif: .apply)
    var image = RGBImage()
    var turned = ImagePNG(width: 40, height: 30, kind: .colorAlpha) { x, y, c in UInt8(x + y + c) }
    turned.chunks = [ImagePNG.exif(6)]
    let small = ImagePNG(width: 3, height: 2) { x, y, c in UInt8(90 * x + 9 * y + c) }
    for _ in 0..<3 {
      try decoder.decode(turned.bytes, into: &image)
      #expect(image.width == 30 && image.height == 40)
      try decoder.decode(small.bytes, into: &image)
      #expect(image.rgb == small.rows.flatMap { $0 })
    }
  }

  private func base64(_ text: String) throws -> [UInt8] {
    [UInt8](try #require(Data(base64Encoded: text, options: .ignoreUnknownCharacters)))
  }
}
