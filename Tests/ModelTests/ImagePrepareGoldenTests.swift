import Model
import Tensor
import TestSupport
import Testing

/// Resize, crop and normalisation agree with PIL and open_clip on the golden set.
@Suite struct ImagePrepareGoldenTests {
  let golden: ImageGoldenSet
  init() throws { golden = try ImageGoldenSet() }

  /// Crops are made of the decoded pixels in the set, so that errors of decoder and resize cannot hide each other.
  @Test func crops() throws {
    var resampler = Resampler()
    for crop in try Fixture.required(golden.meta.crops, "crops in preprocess/meta.json") {
      let expected = try #require(try golden.bytes(crop.tensor))
      let source = try image(crop.image)
      let box = CropBox(left: crop.left, top: crop.top, width: crop.width, height: crop.height)
      let found = resampler.resize(source, box: box, width: crop.out, height: crop.out)
      let worst = zip(found.rgb, expected).map { abs(Int($0) - Int($1)) }.max()
      #expect(found.rgb.count == expected.count && worst ?? 256 <= 1, "\(crop): up to \(worst ?? -1) grey levels")
    }
  }

  /// The evaluation transform is compared with `evalN_rgb_first`, and with `evalN` if the set has it and the order of
  /// the steps makes no difference.
  @Test func evaluation() throws {
    var compared = 0
    for tensor in golden.tensors {
      let parts = tensor.split(separator: "/").map(String.init)
      guard parts.count == 2, let size = Self.evaluationSize(parts[1]) else { continue }
      let image = try #require(golden.meta.images[parts[0]])
      if !parts[1].hasSuffix("_rgb_first") && image.orderMatters { continue }
      let preparation = try ImagePreparation(options(size), seed: 0)
      let found = Tensor<Float>(Shape(3, size, size))
      try preparation.prepareEvaluation(golden.file(parts[0]), into: found)
      let expected = try #require(try golden.floats(tensor))
      // One grey level of 255, divided by the smallest standard deviation, plus rounding.
      let level = 1 / 255 / (golden.meta.std.min() ?? 1) * 1.001
      let worst = zip(found.array, expected).map { abs($0 - $1) }.max()
      #expect(found.count == expected.count && worst ?? 1 <= level, "\(tensor): off by up to \(worst ?? -1)")
      compared += 1
    }
    #expect(compared >= golden.names.count, "the golden set has fewer evaluation transforms than images")
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

  private func image(_ name: String) throws -> RGBImage {
    let shape = try #require(try golden.shape("\(name)/rgb"))
    return RGBImage(width: shape[1], height: shape[0], rgb: try #require(try golden.bytes("\(name)/rgb")))
  }

  /// Returns the size in a tensor's role: 32 for "eval32" and "eval32_rgb_first".
  private static func evaluationSize(_ role: String) -> Int? {
    guard role.hasPrefix("eval") else { return nil }
    return Int(role.dropFirst(4).prefix { $0.isNumber })
  }
}
