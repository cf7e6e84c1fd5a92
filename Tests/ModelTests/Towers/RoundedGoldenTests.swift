import Dist
import Tensor
import TestSupport
import Testing

@testable import Model

/// Towers whose products round their operands to bfloat16, against open_clip in double precision.
@Suite struct RoundedGoldenTests {
  @Test(arguments: ["vit", "resnet"]) func featuresInSinglePrecision(set: String) throws {
    try compareFeatures(Float.self, set)
  }
  @Test(arguments: ["vit", "resnet"]) func featuresInDouble(set: String) throws {
    try compareFeatures(Double.self, set)
  }

  private func compareFeatures<S: Scalar>(_: S.Type, _ set: String) throws {
    let golden = try TowerGoldenSet(set)
    let model: CLIP<S> = try golden.model(precision: .bf16)
    let batch: (images: Tensor<S>, tokens: TokenBatch) = golden.batch(golden.mainBatch)
    let bound = 2e-2 * growth(model.config)
    for (role, result) in [
      ("image_features", model.visual.forward(batch.images, mode: .evaluation)),
      ("text_features", model.text.forward(batch.tokens, mode: .evaluation)),
    ] {
      let expected = try golden.outputs.tensor("f64.\(set == "vit" ? "" : "eval.")\(role)", as: Double.self)
      let deviation = Deviation(result.array, from: expected.array)
      #expect(deviation.relative <= bound, "\(role): \(deviation)")
      #expect(deviation.relative > 1e-5, "\(role): nothing was rounded")
    }
  }

  /// Returns the factor by which deeper towers' errors may exceed those of `Tests/Fixtures/golden`, whose towers have 3
  /// blocks, or 5 in the ResNet: independent errors grow with the square root of their number.
  private func growth(_ config: CLIPConfig) -> Double {
    let blocks = max(config.vision.layers, config.text.layers)
    return max(1, Double(blocks) / (config.vision.stages == nil ? 3 : 5)).squareRoot()
  }

  /// Compares each gradient as a whole. Some 24 operands per block are rounded in forward and backward, each number by
  /// at most 2⁻⁹ of itself; if these errors were independent, three blocks would make at most 1.7 % of them. The logit
  /// scale enlarges those of the scores. A ResNet is not compared: with batch statistics of few points, and ReLUs that
  /// switch, a rounding can change a gradient by half. Its layers are compared with fp32 products one by one.
  @Test func gradients() throws {
    let golden = try TowerGoldenSet("vit")
    let rounded = Learner<Float>(model: try golden.model(precision: .bf16))
    let exact = Learner<Double>(model: try golden.model())
    _ = try rounded.accumulate(golden.batch(golden.mainBatch))
    _ = try exact.accumulate(golden.batch(golden.mainBatch))
    let (found, expected) = (rounded.model.parameters, exact.model.parameters)
    let bound = 4e-2 * growth(exact.model.config)
    for (index, entry) in expected.entries.enumerated() {
      let (a, b) = (found.gradient(of: found.entries[index]).array, expected.gradient(of: entry).array)
      var (distance, length) = (0.0, 0.0)
      for (x, y) in zip(a, b) {
        distance += (Double(x) - y) * (Double(x) - y)
        length += y * y
      }
      let relative = (distance / length).squareRoot()
      #expect(relative <= bound && relative > 1e-5, "\(entry.name): \(relative)")
    }
  }
}
