import Foundation
import Model
import Tensor
import TestSupport
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

  @Test(
    arguments: [
      [], [0xFF], [0xFF, 0xD8], LongBytes("GIF89a......".utf8), LongBytes("RIFF....AVI ".utf8),
      LongBytes([UInt8](repeating: 0, count: 1000)), [0x89, 0x50, 0x4E, 0x47],
    ] as [LongBytes])
  func strangers(file: LongBytes) {
    #expect(error(file.bytes) == .unknownFormat(bytes: file.bytes.count))
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

  /// Scans that are over the whole image and take a few bytes each: the more pixels, the fewer are decoded.
  @Test func scansOfAllPixels() {
    #expect(error(ProgressiveJPEG.scans(31, side: 8)) == nil)
    #expect(
      error(ProgressiveJPEG.scans(501, side: 8))
        == .damaged(format: .jpeg, reason: "more than 500 scans of so many pixels"))
    #expect(
      error(ProgressiveJPEG.scans(31, side: 3000))
        == .damaged(format: .jpeg, reason: "more than 30 scans of so many pixels"))
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

/// Gray progressive JPEGs without any coefficient.
private enum ProgressiveJPEG {
  /// Returns a file whose scans each skip all of its blocks, 32,767 at a time.
  static func scans(_ count: Int, side: Int) -> [UInt8] {
    let (high, low) = (UInt8(side >> 8), UInt8(side & 255))
    var file: [UInt8] = [0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0] + [UInt8](repeating: 1, count: 64)
    file += [0xFF, 0xC2, 0, 11, 8, high, low, high, low, 1, 1, 0x11, 0]
    // The only code of the table of coefficients, one bit, begins a run of 2¹⁴ blocks and as many more as 14 bits say.
    file += [0xFF, 0xC4, 0, 20, 0x10, 1] + [UInt8](repeating: 0, count: 15) + [0xE0]
    let blocks = (side + 7) / 8 * ((side + 7) / 8)
    let runs = String(repeating: "0" + String(repeating: "1", count: 14), count: (blocks + 32_766) / 32_767)
    let bits = Array((runs + String(repeating: "1", count: 7)).utf8)
    let bytes = stride(from: 0, to: bits.count - 7, by: 8).flatMap { at -> [UInt8] in
      let byte = bits[at..<at + 8].reduce(0 as UInt8) { $0 << 1 | ($1 & 1) }
      return byte == 0xFF ? [0xFF, 0] : [byte]
    }
    for _ in 0..<count { file += [0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 63, 0] + bytes }
    return file + [0xFF, 0xD9]
  }
}
