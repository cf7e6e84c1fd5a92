import Model
import Tensor
import TestSupport
import Testing

/// Resize, crop and normalisation are those of PIL and open_clip, on the golden set.
@Suite struct ImagePrepareGoldenTests {
  let golden: ImageGoldenSet
  init() throws { golden = try ImageGoldenSet() }

  /// Crops: from the decoded pixels that the set holds, so that a decoder cannot hide a resize or the other way round.
  @Test func crops() throws {
    var resampler = Resampler()
    for crop in try Fixture.required(golden.meta.crops, "crops in preprocess/meta.json") {
      let expected = try #require(try golden.bytes(crop.tensor))
      let source = try picture(crop.image)
      let box = CropBox(left: crop.left, top: crop.top, width: crop.width, height: crop.height)
      let found = resampler.resize(source, box: box, width: crop.out, height: crop.out)
      let worst = zip(found.rgb, expected).map { abs(Int($0) - Int($1)) }.max()
      #expect(found.rgb.count == expected.count && worst ?? 256 <= 1, "\(crop): up to \(worst ?? -1) grey levels")
    }
  }

  /// The evaluation transform: `evalN_rgb_first`, and `evalN` where the set has it and the order makes no difference.
  @Test func evaluation() throws {
    var compared = 0
    for tensor in golden.tensors {
      let parts = tensor.split(separator: "/").map(String.init)
      guard parts.count == 2, let size = Self.evaluationSize(parts[1]) else { continue }
      let picture = try #require(golden.meta.images[parts[0]])
      if !parts[1].hasSuffix("_rgb_first") && picture.orderMatters { continue }
      let preparation = try ImagePreparation(options(size), seed: 0)
      let found = Tensor<Float>(Shape(3, size, size))
      try preparation.prepareEvaluation(golden.file(parts[0]), into: found)
      let expected = try #require(try golden.floats(tensor))
      // One grey level of 255 in units of the smallest deviation, and rounding.
      let level = 1 / 255 / (golden.meta.std.min() ?? 1) * 1.001
      let worst = zip(found.array, expected).map { abs($0 - $1) }.max()
      #expect(found.count == expected.count && worst ?? 1 <= level, "\(tensor): off by up to \(worst ?? -1)")
      compared += 1
    }
    #expect(compared >= golden.names.count, "the golden set has fewer evaluation transforms than pictures")
  }

  private func options(_ size: Int) -> ImageOptions {
    var options = ImageOptions()
    options.size = size
    options.mean = golden.meta.mean
    options.std = golden.meta.std
    options.alpha = .drop
    options.exif = .ignore
    return options
  }

  private func picture(_ name: String) throws -> RGBImage {
    let shape = try #require(try golden.shape("\(name)/rgb"))
    return RGBImage(width: shape[1], height: shape[0], rgb: try #require(try golden.bytes("\(name)/rgb")))
  }

  /// 32 for "eval32" and "eval32_rgb_first".
  private static func evaluationSize(_ role: String) -> Int? {
    guard role.hasPrefix("eval") else { return nil }
    return Int(role.dropFirst(4).prefix { $0.isNumber })
  }
}
