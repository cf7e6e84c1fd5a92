import Foundation
import Tensor
import TestSupport
import Testing

@testable import Model

/// Compares a masked model with plain loops that apply the masks to activations, with finite differences, and with the
/// cut model.
@Suite struct MaskedModelTests {
  typealias Sizes = SmallModels.Sizes

  static let sizes = [
    SmallModels.all[2],
    Sizes(
      name: "three heads, three layers, quick", embedding: 4,
      vision: VisionConfig(imageSize: 6, patchSize: 3, width: 9, layers: 3, headWidth: 3),
      text: TextConfig(contextLength: 5, vocabularySize: 8, width: 6, heads: 3, layers: 2), activation: .quickGELU,
      lengths: [5, 2]),
  ]

  private static func model(_ sizes: Sizes) -> CLIP<Double> {
    let model = CLIP<Double>(sizes.config)
    model.initialize(seed: 5)
    model.parameters.shake()
    return model
  }

  /// Returns masks between 0 and 1, of which some in each vector are exactly 0.
  private static func masks(_ layout: MaskLayout) -> [Double] {
    var random = KeyedRandom(seed: 6, purpose: "masks")
    var masks = (0..<layout.count).map { _ in random.uniform(from: 0.3, to: 0.95) }
    for (_, range) in layout.vectors where range.count > 1 {
      masks[range.lowerBound + random.below(range.count)] = 0
    }
    return masks
  }

  private static func features(_ model: CLIP<Double>, _ sizes: Sizes, mode: ForwardMode = .evaluation) -> (
    image: [Double], text: [Double]
  ) {
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = SmallModels.batch(sizes)
    return (
      model.visual.forward(batch.images, mode: mode).array,
      model.text.forward(batch.tokens, mode: mode).array
    )
  }

  @Test(arguments: sizes) func masksAreWhereTheActivationsAre(_ sizes: Sizes) {
    let model = Self.model(sizes)
    let layout = MaskLayout(sizes.config, towers: .both)
    let masks = Self.masks(layout)
    var plain = PlainCLIP(
      config: sizes.config,
      parameters: Dictionary(
        uniqueKeysWithValues: model.parameters.entries.map { ($0.name, model.parameters.value(of: $0).array) }))
    plain.masks = Dictionary(uniqueKeysWithValues: layout.vectors.map { ($0.name, Array(masks[$0.range])) })
    let masked = MaskedModel(model, layout)
    let before = model.parameters.values.array
    masked.apply(masks)
    let features = Self.features(model, sizes)
    masked.restore()
    #expect(model.parameters.values.array == before)
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = SmallModels.batch(sizes)
    let pixels = batch.images.count / sizes.lengths.count
    let images = (0..<sizes.lengths.count).flatMap {
      plain.feature(ofImage: batch.images.slice($0 * pixels..<($0 + 1) * pixels).array)
    }
    let texts = SmallModels.captions(sizes).flatMap { plain.feature(ofText: $0) }
    #expect(Deviation(features.image, from: images).relative < 1e-12)
    #expect(Deviation(features.text, from: texts).relative < 1e-12)
    #expect(Deviation(features.image, from: Self.features(model, sizes).image).relative > 1e-3)
  }

  @Test(arguments: sizes) func masksOfOneChangeNoBit(_ sizes: Sizes) throws {
    let (plain, model) = (Learner(model: Self.model(sizes)), Learner(model: Self.model(sizes)))
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = SmallModels.batch(sizes)
    let layout = MaskLayout(sizes.config, towers: .both)
    let masked = MaskedModel(model.model, layout)
    masked.apply(Array(repeating: 1, count: layout.count))
    let losses = (try model.accumulate(batch), try plain.accumulate(batch))
    #expect(losses.0 == losses.1)
    _ = masked.remove()
    #expect(model.model.parameters.gradients.array == plain.model.parameters.gradients.array)
  }

  @Test(arguments: sizes, [Towers.both, .image, .text]) func cutIsEqualToMasked(_ sizes: Sizes, _ towers: Towers) throws
  {
    let model = Self.model(sizes)
    let layout = MaskLayout(sizes.config, towers: towers)
    let masks = Self.masks(layout)
    let masked = MaskedModel(model, layout)
    let small = CLIP<Double>(masked.cutConfig(masks))
    masked.cut(masks, into: small)
    #expect(small.parameters.parameterCount < model.parameters.parameterCount)
    masked.apply(masks)
    let (whole, cut) = (Self.features(model, sizes), Self.features(small, sizes))
    masked.restore()
    #expect(Deviation(cut.image, from: whole.image).relative < 1e-12)
    #expect(Deviation(cut.text, from: whole.text).relative < 1e-12)
    #expect(small.logitScale.value[0] == model.logitScale.value[0])

    // Its sizes survive a round trip through JSON, and it can be cut again: sparsity is relative to the first model.
    let config = try CLIPConfig(json: small.config.json)
    #expect(config == small.config)
    let again = MaskLayout(config, towers: towers)
    let all = Masks(again).sparsity(of: Array(repeating: 1, count: again.count))
    #expect(abs(all - Masks(layout).sparsity(of: masks)) < 1e-12 && all > 0.1)
    let (pruned, fewer) = (MaskedModel(small, again), Self.masks(again))
    let smaller = CLIP<Double>(pruned.cutConfig(fewer))
    pruned.cut(fewer, into: smaller)
    #expect(Self.features(smaller, sizes).image.allSatisfy { $0.isFinite })
  }

  /// Checks the gradients by parameters and masks. Masks of 0 are left out: they remove their units from layer norm, so
  /// there is no derivative.
  @Test(arguments: sizes) func gradients(_ sizes: Sizes) throws {
    let learner = Learner(model: Self.model(sizes))
    let layout = MaskLayout(sizes.config, towers: .both)
    let masks = Self.masks(layout)
    let alive = masks.indices.filter { masks[$0] != 0 }
    let values = Tensor<Double>(Shape(alive.count), alive.map { masks[$0] })
    let slopes = Tensor<Double>(values.shape)
    let masked = MaskedModel(learner.model, layout)
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = SmallModels.batch(sizes)
    func current() -> [Double] {
      var current = masks
      for (at, index) in alive.enumerated() { current[index] = values[at] }
      return current
    }
    // Parameters that are masked everywhere have gradients of exactly 0, which must not make the check call itself
    // blind.
    let variables = learner.model.parameters.variables.map {
      GradientCheck.Variable($0.name, $0.value, gradient: $0.gradient, accumulates: false)
    }
    let report = try GradientCheck(
      variables + [.init("masks", values, gradient: slopes, accumulates: false)],
      roundings: SmallModels.roundings(sizes.config)
    ).run {
      masked.apply(current())
      defer { masked.restore() }
      return [try learner.loss(batch)]
    } backward: { weights in
      fill(learner.model.parameters.gradients, 0)
      masked.apply(current())
      _ = try learner.accumulate(batch, weight: weights[0])
      let gradient = masked.remove()
      for (at, index) in alive.enumerated() { slopes[at] = gradient[index] }
    }
    #expect(report.passed, "\(report)")
  }

  /// Checks the gradients by log α through masks that are drawn; clipped masks have a derivative of 0.
  @Test(arguments: sizes) func gradientsOfLogAlpha(_ sizes: Sizes) throws {
    let learner = Learner(model: Self.model(sizes))
    var masks = Masks(MaskLayout(sizes.config, towers: .both))
    var random = KeyedRandom(seed: 9, purpose: "log alpha")
    for index in masks.logAlpha.indices { masks.logAlpha[index] = random.uniform(from: -0.5, to: 1.5) }
    let logAlpha = Tensor<Double>(Shape(masks.logAlpha.count), masks.logAlpha)
    let slopes = Tensor<Double>(logAlpha.shape)
    let masked = MaskedModel(learner.model, masks.layout)
    let batch: (images: Tensor<Double>, tokens: TokenBatch) = SmallModels.batch(sizes)
    func sample() -> (values: [Double], slopes: [Double]) {
      masks.logAlpha = logAlpha.array
      return masks.sample(seed: 12, step: 3)
    }
    let report = try GradientCheck(
      [.init("log alpha", logAlpha, gradient: slopes, accumulates: false)],
      roundings: SmallModels.roundings(sizes.config)
    ).run {
      masked.apply(sample().values)
      defer { masked.restore() }
      return [try learner.loss(batch)]
    } backward: { weights in
      fill(learner.model.parameters.gradients, 0)
      let sample = sample()
      masked.apply(sample.values)
      _ = try learner.accumulate(batch, weight: weights[0])
      for (index, gradient) in masked.remove().enumerated() { slopes[index] = gradient * sample.slopes[index] }
    }
    #expect(report.passed, "\(report)")
    let values = sample().values
    #expect(values.contains(0) && values.contains(1) && values.contains { $0 > 0 && $0 < 1 })
  }

  /// If all masks of a step are 0, features and gradients are 0 and finite.
  @Test func nothingLeft() throws {
    let learner = Learner(model: Self.model(Self.sizes[0]))
    let layout = MaskLayout(Self.sizes[0].config, towers: .both)
    let masked = MaskedModel(learner.model, layout)
    masked.apply(Array(repeating: 0, count: layout.count))
    let features = Self.features(learner.model, Self.sizes[0], mode: .training)
    #expect(features.image.allSatisfy { $0 == 0 } && features.text.allSatisfy { $0 == 0 })
    let e = Self.sizes[0].embedding
    learner.model.visual.backward(Tensor(Shape(features.image.count / e, e), features.image.map { _ in 1 }))
    learner.model.text.backward(Tensor(Shape(features.text.count / e, e), features.text.map { _ in 1 }))
    #expect(
      masked.remove().allSatisfy { $0 == 0 } && learner.model.parameters.gradients.array.allSatisfy { $0.isFinite })
  }
}
