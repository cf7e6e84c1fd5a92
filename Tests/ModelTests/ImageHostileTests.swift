import Foundation
import Model
import Tensor
import Testing

/// Hostile files: each ends in an error that says what is wrong.
@Suite struct ImageHostileTests {
  private func error(_ bytes: [UInt8], maxPixels: Int = ImageDecoder.defaultMaxPixels) -> ImageError? {
    var decoder = ImageDecoder(maxPixels: maxPixels)
    do {
      _ = try decoder.decode(bytes)
      return nil
    } catch { return error }
  }

  @Test(arguments: [
    [], [0xFF], [0xFF, 0xD8], Array("GIF89a......".utf8), Array("RIFF....AVI ".utf8),
    [UInt8](repeating: 0, count: 1000), [0x89, 0x50, 0x4E, 0x47],
  ]) func strangers(bytes: [UInt8]) {
    #expect(error(bytes) == .unknownFormat(bytes: bytes.count))
  }

  @Test func signaturesAlone() {
    for bytes in [
      [0xFF, 0xD8, 0xFF], [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A], Array("RIFF\0\0\0\0WEBP".utf8),
      Array("RIFF\u{7F}\u{7F}\u{7F}\u{7F}WEBPVP8 ".utf8),
    ] {
      guard case .damaged = error(bytes) else {
        Issue.record("\(bytes): \(String(describing: error(bytes)))")
        continue
      }
    }
  }

  /// Sizes are refused by the header alone: these files have hardly any pixels.
  @Test(arguments: [(30_000, 30_000), (1_000_000, 1_000_000), (1_000_000, 51)]) func hugeSize(
    width: Int, height: Int
  ) {
    var png = ImagePNG(width: 1, height: 1) { _, _, _ in 0 }
    (png.width, png.height) = (width, height)
    let expected = ImageError.tooManyPixels(
      format: .png, width: width, height: height, limit: ImageDecoder.defaultMaxPixels)
    #expect(error(png.bytes) == expected)
    #expect("\(expected)".contains("image.max_pixels"))
  }

  @Test func impossibleSizes() {
    for (width, height) in [(0, 4), (4, 0), (2_147_483_647, 2_147_483_647), (4_294_967_295, 1)] {
      var png = ImagePNG(width: 1, height: 1) { _, _, _ in 0 }
      (png.width, png.height) = (width, height)
      guard case .damaged(.png, _) = error(png.bytes) else {
        Issue.record("\(width) × \(height) passed")
        continue
      }
    }
  }

  @Test func limitIsExact() {
    let png = ImagePNG(width: 7, height: 3) { _, _, _ in 9 }
    #expect(error(png.bytes, maxPixels: 21) == nil)
    #expect(error(png.bytes, maxPixels: 20) == .tooManyPixels(format: .png, width: 7, height: 3, limit: 20))
  }

  @Test func missingRows() {
    var png = ImagePNG(width: 50, height: 50) { _, _, _ in 7 }
    png.rows.removeLast(20)
    guard case .damaged(.png, _) = error(png.bytes) else {
      Issue.record("an image without its lower rows passed")
      return
    }
  }

  @Test func cutAnywhere() {
    let bytes = ImagePNG(width: 9, height: 9) { x, y, c in UInt8(x * y + c) }.bytes
    for count in 8..<bytes.count {
      guard case .damaged(.png, let reason) = error(Array(bytes[..<count])), !reason.isEmpty else {
        Issue.record("\(count) of \(bytes.count) bytes passed")
        continue
      }
    }
  }

  /// The checksums reveal every changed byte.
  @Test func changedAnywhere() {
    let bytes = ImagePNG(width: 6, height: 5) { x, y, c in UInt8(x * y + c) }.bytes
    for at in bytes.indices {
      var changed = bytes
      changed[at] ^= 0x10
      #expect(error(changed) != nil, "byte \(at)")
    }
  }

  @Test func paletteIndexBeyondThePalette() throws {
    var png = ImagePNG(width: 4, height: 1, kind: .palette) { x, _, _ in UInt8(x * 80) }
    png.chunks = [("PLTE", [1, 2, 3])]
    // libpng decodes such an index as black; the point is that nothing is read beyond the palette.
    var decoder = ImageDecoder()
    #expect(try decoder.decode(png.bytes).rgb.prefix(3) == [1, 2, 3])
  }

  /// EXIF blocks that are invalid or point outside themselves leave the image upright.
  @Test(arguments: [
    [], [0x4D], Array("MM\0*".utf8), [0x4D, 0x4D, 0, 42, 0xFF, 0xFF, 0xFF, 0xFF],
    [0x4D, 0x4D, 0, 42, 0, 0, 0, 8, 0xFF, 0xFF], [0x49, 0x49, 42, 0, 8, 0, 0, 0, 0xFF, 0xFF, 0x12, 1],
    [0x58, 0x58, 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0],
    [0x4D, 0x4D, 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 9, 0, 0],
    [0x4D, 0x4D, 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 2, 0, 0, 0, 1, 0, 6, 0, 0],
    [0x4D, 0x4D, 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 4, 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF],
  ]) func senselessOrientation(block: [UInt8]) throws {
    var png = ImagePNG(width: 2, height: 1) { x, _, _ in UInt8(x) }
    png.chunks = [("eXIf", block)]
    #expect(try ImageDecoder.probe(png.bytes).orientation == .upright)
    var decoder = ImageDecoder(exif: .apply)
    #expect(try decoder.decode(png.bytes).rgb == [0, 0, 0, 1, 1, 1])
  }

  /// Images of extreme shape are prepared in bounded memory, whatever the size of the whole resized image would be.
  @Test(arguments: [(1, 1), (1, 60_000), (60_000, 1), (3, 20_000)]) func extremeShapes(width: Int, height: Int) throws {
    var options = ImageOptions()
    options.size = 64
    options.mean = [0, 0, 0]
    options.std = [1, 1, 1]
    let preparation = try ImagePreparation(options, seed: 4)
    let bytes = ImagePNG(width: width, height: height) { _, _, c in UInt8(50 + 100 * c / 2) }.bytes
    let tensor = Tensor<Float>(Shape(3, 64, 64))
    for training in [true, false] {
      if training {
        try preparation.prepareTraining(bytes, sampleID: 1, view: 0, into: tensor)
      } else {
        try preparation.prepareEvaluation(bytes, into: tensor)
      }
      let expected = (0..<3).flatMap { c in [Float](repeating: Float(50 + 100 * c / 2) / 255, count: 64 * 64) }
      #expect(tensor.array == expected)
    }
  }

  /// Several threads decode intact and damaged files concurrently.
  @Test func threads() async {
    let good = ImagePNG(width: 60, height: 40, kind: .colorAlpha) { x, y, c in UInt8(x + y + c) }.bytes
    let bad = Array(good.dropLast(200))
    let expected = try? {
      var decoder = ImageDecoder()
      return try decoder.decode(good)
    }()
    let sound = await withTaskGroup(of: Bool.self) { group in
      for task in 0..<8 {
        group.addTask {
          var decoder = ImageDecoder()
          return (0..<200).allSatisfy { turn in
            let image = try? decoder.decode((turn + task) % 2 == 0 ? good : bad)
            return image == ((turn + task) % 2 == 0 ? expected : nil)
          }
        }
      }
      return await group.allSatisfy { $0 }
    }
    #expect(sound && expected != nil)
  }
}
