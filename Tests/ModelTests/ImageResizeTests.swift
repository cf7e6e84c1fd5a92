import Foundation
import Model
import Tensor
import Testing

/// Compares the fast resize with a slow one in double precision.
@Suite struct ImageResizeTests {
  private static let sizes = [1, 2, 3, 7, 13, 31, 64, 97]

  private func noise(width: Int, height: Int, seed: UInt64 = 1) -> RGBImage {
    var random = KeyedRandom(seed: seed, purpose: "noise", UInt64(width), second: UInt64(height))
    let bytes = (0..<width * height * 3).map { _ in UInt8(random.below(256)) }
    return RGBImage(width: width, height: height, rgb: bytes)
  }

  /// Returns the kernel of cubic convolution with a = −½, by its definition.
  private func cubic(_ distance: Double) -> Double {
    let x = abs(distance)
    if x < 1 { return 1.5 * x * x * x - 2.5 * x * x + 1 }
    return x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2 : 0
  }

  /// Resizes one line of values slowly, and rounds to whole grey levels.
  private func line(_ values: [Double], to output: Int) -> [Double] {
    let scale = Double(values.count) / Double(output)
    let stretch = max(scale, 1)
    return (0..<output).map { index in
      let center = (Double(index) + 0.5) * scale
      var (sum, total) = (0.0, 0.0)
      for (at, value) in values.enumerated() {
        let weight = cubic((Double(at) + 0.5 - center) / stretch)
        sum += weight * value
        total += weight
      }
      return min(max((sum / total + 0.5).rounded(.down), 0), 255)
    }
  }

  private func slow(_ image: RGBImage, width: Int, height: Int) -> [UInt8] {
    var plane = image.rgb.map(Double.init)
    var (w, h) = (image.width, image.height)
    func across() {
      let rows = (0..<h * 3).map { k in line((0..<w).map { plane[(k / 3 * w + $0) * 3 + k % 3] }, to: width) }
      plane = (0..<h * width * 3).map { rows[$0 / (width * 3) * 3 + $0 % 3][$0 / 3 % width] }
      w = width
    }
    func down() {
      let columns = (0..<w * 3).map { k in line((0..<h).map { plane[$0 * w * 3 + k] }, to: height) }
      plane = (0..<height * w * 3).map { columns[$0 % (w * 3)][$0 / (w * 3)] }
      h = height
    }
    if height < image.height && image.height - height > 2 * (image.width - width) {
      down()
      across()
    } else {
      across()
      down()
    }
    return plane.map { UInt8($0) }
  }

  /// Enlarges and shrinks, with odd and prime sizes. A value may be off by one grey level if a sum is on the edge of
  /// rounding.
  @Test(arguments: sizes) func agreesWithTheSlowOne(width: Int) {
    var resampler = Resampler()
    for (height, target) in [(5, 3), (width, 11), (97, 8), (17, 40), (3, 1)] {
      for output in [1, 3, 17, 41] {
        let image = noise(width: width, height: height)
        let found = resampler.resize(image, width: output, height: target)
        let differences = zip(found.rgb, slow(image, width: output, height: target)).map { abs(Int($0) - Int($1)) }
        #expect(differences.count == output * target * 3)
        #expect(differences.max() ?? 9 <= 1, "\(width) × \(height) to \(output) × \(target)")
        #expect(differences.reduce(0, +) <= 1 + differences.count / 100)
      }
    }
  }

  @Test(arguments: sizes) func sameSizeIsTheSameImage(size: Int) {
    var resampler = Resampler()
    let image = noise(width: size, height: 20)
    #expect(resampler.resize(image, width: size, height: 20) == image)
  }

  @Test(arguments: [0, 1, 127, 254, 255] as [UInt8]) func flatStaysFlat(value: UInt8) {
    var resampler = Resampler()
    let image = RGBImage(width: 37, height: 23, rgb: [UInt8](repeating: value, count: 37 * 23 * 3))
    for (width, height) in [(1, 1), (5, 90), (90, 5), (64, 64), (36, 2)] {
      #expect(resampler.resize(image, width: width, height: height).rgb.allSatisfy { $0 == value })
    }
  }

  /// Resizing a box equals cutting it out first: nothing outside it contributes.
  @Test(arguments: [(0, 0, 61, 47), (5, 3, 40, 44), (60, 46, 1, 1), (0, 10, 61, 5), (20, 0, 2, 47)])
  func boxIsACutOutImage(left: Int, top: Int, width: Int, height: Int) {
    var resampler = Resampler()
    let image = noise(width: 61, height: 47)
    let rgb = image.rgb
    let rows = (top..<top + height).map { y in rgb[(y * 61 + left) * 3..<(y * 61 + left + width) * 3] }
    let cut = RGBImage(width: width, height: height, rgb: rows.flatMap { $0 })
    for size in [1, 16, 50] {
      let box = CropBox(left: left, top: top, width: width, height: height)
      #expect(
        resampler.resize(image, box: box, width: size, height: size)
          == resampler.resize(cut, width: size, height: size))
    }
  }

  /// The evaluation transform, which computes only the window that it keeps, equals a whole resize followed by a cut.
  @Test(arguments: [(50, 31), (31, 50), (33, 33), (200, 20), (20, 201), (16, 16), (9, 5)])
  func windowIsAPartOfTheWhole(width: Int, height: Int) throws {
    let (found, expected) = try window(width: width, height: height)
    #expect(found == expected)
  }

  /// The last output of a window may need fewer samples than the one before it.
  @Test(arguments: 1...24) func windowsOfSmallImages(width: Int) throws {
    for height in 1...24 {
      let (found, expected) = try window(width: width, height: height)
      #expect(found == expected, "\(width) × \(height)")
    }
  }

  /// Returns an image prepared for evaluation, and the same image cut from the whole resized one.
  private func window(width: Int, height: Int) throws -> (found: [Float], expected: [Float]) {
    var options = ImageOptions()
    options.size = 16
    let preparation = try ImagePreparation(options, seed: 0)
    let image = noise(width: width, height: height)
    let rgb = image.rgb
    let png = ImagePNG(width: width, height: height) { x, y, c in rgb[(y * width + x) * 3 + c] }
    let found = Tensor<Float>(Shape(3, 16, 16))
    try preparation.prepareEvaluation(png.bytes, into: found)

    let (w, h) = width <= height ? (16, 16 * height / width) : (16 * width / height, 16)
    var resampler = Resampler()
    let whole = resampler.resize(image, width: w, height: h).rgb
    let (left, top) = (half(w - 16), half(h - 16))
    let expected = (0..<3 * 256).map { at in
      let (c, y, x) = (at / 256, at / 16 % 16, at % 16)
      let value = Float(whole[((y + top) * w + x + left) * 3 + c]) / 255
      return (value - options.mean[c]) / options.std[c]
    }
    return (found.array, expected)
  }

  /// Returns n / 2, with halves rounded to even.
  private func half(_ n: Int) -> Int { n % 4 == 3 ? n / 2 + 1 : n / 2 }

  /// A resampler that was used for other sizes gives the same result as a new one.
  @Test func scratchLeavesNoTrace() {
    var used = Resampler()
    for (width, height, size) in [(300, 200, 64), (10, 400, 3), (97, 13, 50), (300, 200, 64), (2, 2, 90)] {
      let image = noise(width: width, height: height)
      var fresh = Resampler()
      #expect(
        used.resize(image, width: size, height: size + 1) == fresh.resize(image, width: size, height: size + 1))
    }
  }

  /// Results do not change when the tables are dropped because there are too many.
  @Test func manySizes() {
    var used = Resampler()
    let image = noise(width: 3000, height: 2)
    let first = used.resize(image, width: 2999, height: 2)
    for width in 2_600..<2_680 { _ = used.resize(image, width: width, height: 2) }
    #expect(used.resize(image, width: 2999, height: 2) == first)
  }
}
