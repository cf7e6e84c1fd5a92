import Foundation
import Model
import Testing

/// Encoded images can be decoded again.
@Suite struct ImageEncodeTests {
  static let sizes = [(1, 1), (1, 9), (64, 48), (37, 21), (300, 200)]

  /// Returns an image of smooth waves of colour, which every format reproduces well.
  private func waves(width: Int, height: Int) -> RGBImage {
    var rgb: [UInt8] = []
    for y in 0..<height {
      for x in 0..<width {
        for c in 0..<3 { rgb.append(UInt8(128 + 90 * sin(Double(x) / 40 + Double(c)) * cos(Double(y) / 50))) }
      }
    }
    return RGBImage(width: width, height: height, rgb: rgb)
  }

  @Test(arguments: ImageFormat.allCases, sizes) func comesBack(format: ImageFormat, size: (Int, Int)) throws {
    let image = waves(width: size.0, height: size.1)
    let file = try image.encoded(as: format, quality: 90)
    let info = try ImageDecoder.probe(file)
    #expect(info.format == format && info.width == size.0 && info.height == size.1 && !info.hasAlpha)
    var decoder = ImageDecoder()
    let found = try decoder.decode(file).rgb
    let errors = zip(found, image.rgb).map { abs(Int($0) - Int($1)) }
    switch format {
    case .png: #expect(errors.allSatisfy { $0 == 0 })
    case .jpeg, .webp:
      #expect(Double(errors.reduce(0, +)) / Double(errors.count) < 4, "\(errors.max() ?? 0) at most")
    }
  }

  /// Leftover bytes of an earlier, larger image are not written.
  @Test func onlyTheImageIsWritten() throws {
    var decoder = ImageDecoder()
    var image = RGBImage()
    try decoder.decode(waves(width: 64, height: 48).encoded(as: .png), into: &image)
    let small = waves(width: 5, height: 3)
    try decoder.decode(small.encoded(as: .png), into: &image)
    #expect(try image.encoded(as: .png) == small.encoded(as: .png))
  }

  @Test func qualityCosts() throws {
    let image = waves(width: 200, height: 150)
    for format in [ImageFormat.jpeg, .webp] {
      #expect(
        try image.encoded(as: format, quality: 20).count < image.encoded(as: format, quality: 95).count, "\(format)"
      )
    }
  }

  @Test(arguments: [(ImageFormat.webp, 16_384), (.jpeg, 65_501)])
  func whatTheFormatDoesNotHold(format: ImageFormat, width: Int) throws {
    let image = RGBImage(width: width, height: 1, rgb: [UInt8](repeating: 9, count: 3 * width))
    do {
      _ = try image.encoded(as: format)
      Issue.record("\(format) took \(width) pixels")
    } catch .unsupported(let found, let reason) {
      #expect(found == format && !reason.isEmpty)
    }
  }
}
