import Foundation
import Model
import Testing

/// Files that are made come back from the decoder.
@Suite struct ImageEncodeTests {
  static let sizes = [(1, 1), (1, 9), (64, 48), (37, 21), (300, 200)]

  /// Slow waves of colour, which every format keeps well.
  private func waves(_ width: Int, _ height: Int) -> RGBImage {
    var rgb: [UInt8] = []
    for y in 0..<height {
      for x in 0..<width {
        for c in 0..<3 { rgb.append(UInt8(128 + 90 * sin(Double(x) / 40 + Double(c)) * cos(Double(y) / 50))) }
      }
    }
    return RGBImage(width: width, height: height, rgb: rgb)
  }

  @Test(arguments: ImageFormat.allCases, sizes) func comesBack(format: ImageFormat, size: (Int, Int)) throws {
    let picture = waves(size.0, size.1)
    let file = try picture.encoded(as: format, quality: 90)
    let info = try ImageDecoder.probe(file)
    #expect(info.format == format && info.width == size.0 && info.height == size.1 && !info.hasAlpha)
    var decoder = ImageDecoder()
    let found = try decoder.decode(file).rgb
    let errors = zip(found, picture.rgb).map { abs(Int($0) - Int($1)) }
    switch format {
    case .png: #expect(errors.allSatisfy { $0 == 0 })
    case .jpeg, .webp:
      #expect(Double(errors.reduce(0, +)) / Double(errors.count) < 4, "\(errors.max() ?? 0) at most")
    }
  }

  /// A picture that has shrunk does not carry its former pixels along.
  @Test func onlyThePictureIsWritten() throws {
    var decoder = ImageDecoder()
    var image = RGBImage()
    try decoder.decode(waves(64, 48).encoded(as: .png), into: &image)
    let small = waves(5, 3)
    try decoder.decode(small.encoded(as: .png), into: &image)
    #expect(try image.encoded(as: .png) == small.encoded(as: .png))
  }

  @Test func qualityCosts() throws {
    let picture = waves(200, 150)
    for format in [ImageFormat.jpeg, .webp] {
      #expect(
        try picture.encoded(as: format, quality: 20).count < picture.encoded(as: format, quality: 95).count, "\(format)"
      )
    }
  }

  @Test(arguments: [(ImageFormat.webp, 16_384), (.jpeg, 65_501)])
  func whatTheFormatDoesNotHold(format: ImageFormat, width: Int) throws {
    let picture = RGBImage(width: width, height: 1, rgb: [UInt8](repeating: 9, count: 3 * width))
    do {
      _ = try picture.encoded(as: format)
      Issue.record("\(format) took \(width) pixels")
    } catch .unsupported(let found, let reason) {
      #expect(found == format && !reason.isEmpty)
    }
  }
}
