import Tensor
import TestSupport
import Testing

@testable import Model

/// Vision transformers that leave out patches in training, as open_clip's PatchDropout does.
@Suite struct PatchDropoutTests {
  private static let sizes = [
    dropping("five of nine patches, and a rest", imageSize: 7, patchSize: 2, width: 5, layers: 2, dropout: 0.4),
    dropping("one of four patches, one block", imageSize: 4, patchSize: 2, width: 3, layers: 1, dropout: 0.9),
    dropping("three of four patches", imageSize: 6, patchSize: 3, width: 7, layers: 3, dropout: 0.25),
  ]

  /// Models of three images each.
  private static func dropping(
    _ name: String, imageSize: Int, patchSize: Int, width: Int, layers: Int, dropout: Double
  ) -> SmallModels.Sizes {
    var vision = VisionConfig(
      imageSize: imageSize, patchSize: patchSize, width: width, layers: layers, headWidth: width)
    vision.patchDropout = dropout
    return SmallModels.Sizes(
      name: name, embedding: 3, vision: vision,
      text: TextConfig(contextLength: 4, vocabularySize: 5, width: 3, heads: 1, layers: 1), lengths: [2, 3, 2])
  }

  private func model<S: Scalar>(
    _ config: CLIPConfig, precision: ComputePrecision = .fp32, recompute: Recompute = .none
  ) -> CLIP<S> {
    let model = CLIP<S>(config, precision: precision, recompute: recompute)
    model.parameters.shake()
    return model
  }

  private func images<S: Scalar>(_ sizes: SmallModels.Sizes) -> Tensor<S> { SmallModels.batch(sizes).images }

  /// The tokens of three images.
  private func kept(_ vision: VisionConfig) -> [Int] {
    (0..<3).flatMap { vision.keptTokens(KeyedRandom(seed: 4, purpose: "patches", UInt64($0))) }
  }

  @Test(arguments: sizes) func gradients(_ sizes: SmallModels.Sizes) {
    let (model, kept): (CLIP<Double>, [Int]) = (model(sizes.config), kept(sizes.vision))
    let images: Tensor<Double> = images(sizes)
    let parameters = model.parameters.variables.filter { $0.name.hasPrefix("visual.") }
    let report = GradientCheck(parameters, roundings: SmallModels.roundings(sizes.config)).run {
      model.visual.forward(images, kept: kept[...], mode: .training, observe: nil).array
    } backward: { weights in
      model.visual.backward(Tensor(Shape(3, sizes.embedding), weights))
    }
    #expect(report.passed, "\(report)")
  }

  @Test(arguments: sizes) func featuresInDouble(_ sizes: SmallModels.Sizes) { compare(Double.self, sizes) }
  @Test(arguments: sizes) func featuresInSinglePrecision(_ sizes: SmallModels.Sizes) { compare(Float.self, sizes) }

  /// The plain tower computes all patches, and drops the same ones behind the positions.
  private func compare<S: Scalar>(_: S.Type, _ sizes: SmallModels.Sizes) {
    let model: CLIP<S> = model(sizes.config)
    let (images, kept): (Tensor<S>, [Int]) = (images(sizes), kept(sizes.vision))
    let store = model.parameters
    let plain = PlainCLIP(
      config: sizes.config,
      parameters: Dictionary(uniqueKeysWithValues: store.entries.map { ($0.name, store.value(of: $0).doubles) }))
    let (pixels, size, t) = (images.doubles, images.count / 3, sizes.vision.trainedTokens)
    let expected = (0..<3).flatMap { (image: Int) -> [Double] in
      let (own, tokens) = (image * size..<(image + 1) * size, image * t..<(image + 1) * t)
      return plain.feature(ofImage: Array(pixels[own]), keeping: Array(kept[tokens]))
    }
    let found = model.visual.forward(images, kept: kept[...], mode: .training, observe: nil).array
    let deviation = Deviation(found, from: expected)
    #expect(deviation.relative <= S.roundoff * SmallModels.roundings(sizes.config), "\(deviation)")
    #expect(model.visual.forward(images, kept: kept[...], mode: .noGrad, observe: nil).array == found)
    let all = Deviation(model.visual.forward(images, mode: .evaluation).array, from: expected)
    #expect(all.relative > 1e-3)
  }

  /// In evaluation a model with patch dropout is the model without.
  @Test(arguments: sizes) func evaluationSeesAllPatches(_ sizes: SmallModels.Sizes) {
    var whole = sizes.config
    whole.vision.patchDropout = 0
    let models: [CLIP<Float>] = [sizes.config, whole].map { model($0) }
    let (images, kept): (Tensor<Float>, [Int]) = (images(sizes), kept(sizes.vision))
    _ = models[0].visual.forward(images, kept: kept[...], mode: .training, observe: nil)
    let features = models.map { $0.visual.forward(images, mode: .evaluation).array }
    #expect(features[0] == features[1])
  }

  /// If all tokens are kept, features and gradients are the bits of a forward that names none.
  @Test func keepingAllTokensChangesNothing() {
    var sizes = Self.sizes[0]
    sizes.vision.patchDropout = 0
    let images: Tensor<Float> = images(sizes)
    let results = [nil, kept(sizes.vision)[...]].map { kept -> [[Float]] in
      let model: CLIP<Float> = model(sizes.config)
      let features = model.visual.forward(images, kept: kept, mode: .training, observe: nil).array
      model.visual.backward(.random(Shape(3, sizes.embedding), "gradient"))
      return [features, model.parameters.gradients.array]
    }
    #expect(results[0] == results[1] && results[0][1].contains { $0 != 0 })
  }

  @Test(arguments: ComputePrecision.allCases) func recomputationGivesTheSameBits(precision: ComputePrecision) {
    let sizes = Self.sizes[2]
    let (images, kept): (Tensor<Float>, [Int]) = (images(sizes), kept(sizes.vision))
    let results = Recompute.allCases.map { recompute -> [[Float]] in
      let model: CLIP<Float> = model(sizes.config, precision: precision, recompute: recompute)
      let features = model.visual.forward(images, kept: kept[...], mode: .training, observe: nil).array
      model.visual.backward(.random(Shape(3, sizes.embedding), "gradient"))
      return [features, model.parameters.gradients.array]
    }
    #expect(results.allSatisfy { $0 == results[0] } && results[0][1].contains { $0 != 0 })
  }

  /// The number of patches is open_clip's max(1, int(patches · (1 − prob))), in Python's doubles.
  @Test(arguments: [
    (14, 0.5, 98), (14, 0.1, 176), (7, 0.75, 12), (4, 0.4, 9), (2, 0.9, 1), (3, 0.0, 9), (10, 0.7, 30), (8, 0.3, 44),
    (10, 0.9, 9),
  ]) func patchesThatAreKept(grid: Int, dropout: Double, count: Int) {
    var vision = VisionConfig(imageSize: grid, patchSize: 1, width: 2, layers: 1, headWidth: 2)
    vision.patchDropout = dropout
    #expect(vision.trainedTokens == 1 + count && vision.tokens == 1 + grid * grid)
    let tokens = vision.keptTokens(KeyedRandom(seed: 1, purpose: "patches"))
    #expect(tokens.count == 1 + count && tokens.first == 0 && tokens.last ?? 0 <= grid * grid)
    #expect(zip(tokens, tokens.dropFirst()).allSatisfy { $0 < $1 })
  }

  @Test func allPatchesAreKeptEquallyOften() {
    var vision = VisionConfig(imageSize: 4, patchSize: 1, width: 2, layers: 1, headWidth: 2)
    vision.patchDropout = 0.6
    let (draws, share) = (2000, 6.0 / 16)
    var counts = [Int](repeating: 0, count: vision.tokens)
    for draw in 0..<draws {
      for token in vision.keptTokens(KeyedRandom(seed: 1, purpose: "patches", UInt64(draw))) { counts[token] += 1 }
    }
    let deviation = (Double(draws) * share * (1 - share)).squareRoot()
    #expect(counts[0] == draws)
    #expect(counts.dropFirst().allSatisfy { abs(Double($0) - Double(draws) * share) < 5 * deviation }, "\(counts)")
  }

  /// The operations by hand, as in `ReadRowsTests`, for two of four patches.
  @Test func operations() {
    var config = CLIPConfig(
      embedding: 5, vision: VisionConfig(imageSize: 6, patchSize: 3, width: 4, layers: 2, headWidth: 2),
      text: TextConfig(contextLength: 6, vocabularySize: 9, width: 6, heads: 2, layers: 1))
    let whole = config.vision.forwardOperations(embedding: 5)
    config.vision.patchDropout = 0.5
    let first = 3 * (4 * 4 * 4 + 2 * 4 * 16) + 2 * 3 * 3 * 4
    let last = 3 * 2 * 4 * 4 + (2 * 4 * 4 + 2 * 4 * 16) + 2 * 3 * 4
    let kept = Double(2 * (2 * 27 * 4 + first + last + 4 * 5))
    #expect(config.vision.forwardOperations(embedding: 5, use: .training) == kept)
    #expect(config.vision.forwardOperations(embedding: 5) == whole && whole > kept)
    let pair = config.forwardOperations(tokens: 3)
    #expect(pair - config.forwardOperations(tokens: 3, use: .training) == whole - kept)
    let repeated = Double(2 * (3 * (4 * 4 * 4 + 4 * 16) + 2 * 3 * 3 * 4))
    #expect(config.repeatedOperations(tokens: 3, .blocks) == repeated)
  }
}
