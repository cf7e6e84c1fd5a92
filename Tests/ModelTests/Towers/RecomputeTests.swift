import Tensor
import TestSupport
import Testing

@testable import Model

/// With any choice of recomputation, features, gradients and running statistics are the same bits.
@Suite struct RecomputeTests {
  private static let again = [Recompute.cheap, .blocks]

  /// All results of training, compared as bits.
  private struct Trace<S: Scalar>: Equatable {
    var features: [[S]] = []
    var gradients: [S] = []
    var statistics: [Double] = []
  }

  /// Trains on two rounds of micro-batches of the given sizes. Several micro-batches first run without keeping
  /// anything, as in a training step.
  private func train<S: Scalar>(
    _ config: CLIPConfig, _ chunks: [Int], _ precision: ComputePrecision, _ recompute: Recompute
  ) throws -> Trace<S> {
    let model = CLIP<S>(config, precision: precision, recompute: recompute)
    model.parameters.shake()
    var trace = Trace<S>()
    for round in 0..<2 {
      let batches = chunks.enumerated().map { number, count in
        let images = Tensor<S>.random(
          Shape(count, 3, config.vision.imageSize, config.vision.imageSize), "images \(round) \(number)", bound: 2)
        let captions = (0..<count).map { row in
          (0..<1 + (row + number) % (config.text.contextLength - 1)).map { Int32(($0 + row) % 3) }
            + [Int32(config.text.vocabularySize - 1)]
        }
        return (images: images, tokens: TokenBatch(captions))
      }
      if batches.count > 1 {
        for batch in batches {
          trace.features.append(model.visual.forward(batch.images, mode: .noGrad, observe: nil).array)
          trace.features.append(model.text.forward(batch.tokens, mode: .evaluation).array)
        }
      }
      for (number, batch) in batches.enumerated() {
        trace.features.append(model.visual.forward(batch.images, mode: .training).array)
        trace.features.append(model.text.forward(batch.tokens, mode: .training).array)
        let gradient = Tensor<S>.random(Shape(batch.tokens.count, config.embedding), "gradient \(round) \(number)")
        model.text.backward(gradient)
        model.visual.backward(gradient)
      }
      try model.visual.moveStatistics()
    }
    trace.gradients = model.parameters.gradients.array
    trace.statistics = model.parameters.bufferValues.array
    return trace
  }

  private func compare<S: Scalar>(_: S.Type, _ config: CLIPConfig, _ precision: ComputePrecision) throws {
    for chunks in [[3], [2, 1, 3]] {
      let kept: Trace<S> = try train(config, chunks, precision, .none)
      #expect(kept.gradients.contains { $0 != 0 } && kept.gradients.allSatisfy { $0.isFinite })
      for recompute in Self.again {
        let made: Trace<S> = try train(config, chunks, precision, recompute)
        #expect(made == kept, "\(recompute), pieces of \(chunks)")
      }
    }
  }

  private static func transformer(_ activation: Activation) -> CLIPConfig {
    var config = CLIPConfig(
      embedding: 5, vision: VisionConfig(imageSize: 11, patchSize: 3, width: 21, layers: 3, headWidth: 7),
      text: TextConfig(contextLength: 6, vocabularySize: 9, width: 10, heads: 2, layers: 4))
    config.activation = activation
    return config
  }

  @Test(arguments: ComputePrecision.allCases, [Activation.gelu, .quickGELU])
  func transformers(precision: ComputePrecision, activation: Activation) throws {
    try compare(Float.self, Self.transformer(activation), precision)
    try compare(Double.self, Self.transformer(activation), precision)
  }

  /// With `blocks` a tower of one block computes nothing again; the blocks of a pruned tower differ in their sizes.
  @Test(arguments: SmallModels.all.map(\.config)) func smallOnes(_ config: CLIPConfig) throws {
    try compare(Double.self, config, .fp32)
    var pruned = config
    let layers = 3
    pruned.vision.layers = layers
    pruned.vision.blocks = BlockSizes(
      headWidth: 2, heads: [2, 1, 3], hidden: [3, 7, 5], fullWidth: 8, fullHeads: 4, fullHidden: 9)
    try compare(Float.self, pruned, .fp32)
  }

  @Test(arguments: ComputePrecision.allCases, [[1, 1, 1, 1], [2, 1, 1, 2]])
  func resNet(precision: ComputePrecision, stages: [Int]) throws {
    // On the way down: 37, 19, 9, 4, 2, 1.
    let config = CLIPConfig(
      embedding: 3, vision: VisionConfig(imageSize: 37, stages: stages, width: 4, headWidth: 32),
      text: TextConfig(contextLength: 3, vocabularySize: 5, width: 2, heads: 1, layers: 1))
    try compare(Float.self, config, precision)
    try compare(Double.self, config, precision)
  }

  @Test(arguments: ResNetTowerTests.sizes) func runningStatisticsMoveOnce(_ sizes: ResNetTowerTests.Sizes) throws {
    let trace: Trace<Double> = try train(sizes.model.config, [sizes.images], .fp32, .blocks)
    let store = CLIP<Double>.layout(sizes.model.config)
    for buffer in store.buffers where buffer.isCount { #expect(trace.statistics[buffer.offset] == 2, "\(buffer.name)") }
  }

  /// The operations that `blocks` repeats, by hand: one block of two, without the second product of its MLP.
  @Test func repeatedOperations() {
    let config = CLIPConfig(
      embedding: 5, vision: VisionConfig(imageSize: 6, patchSize: 3, width: 4, layers: 2, headWidth: 2),
      text: TextConfig(contextLength: 6, vocabularySize: 9, width: 6, heads: 2, layers: 1))
    // Five tokens: query, key, value and output 4 · 4 · 4, expansion 4 · 16; scores and mixture 5 · 5 · 4 each.
    let (linear, attention) = (5 * (4 * 4 * 4 + 4 * 16), 2 * 5 * 5 * 4)
    let image = Double(2 * (linear + attention))
    #expect(config.repeatedOperations(tokens: 3, .blocks) == image)
    #expect(config.repeatedOperations(tokens: 3, .cheap) == 0 && config.repeatedOperations(tokens: 3, .none) == 0)
    var residual = config
    residual.vision = VisionConfig(imageSize: 32, stages: [1, 1, 1, 1], width: 2, headWidth: 64)
    // Points 8 × 8, 4 × 4 and 2 × 2 in and half as many a side out, but in the first block; planes 2, 4 and 8.
    var products = 0
    for (points, out, inputs, planes) in [(64, 64, 2, 2), (64, 16, 8, 4), (16, 4, 16, 8)] {
      products += points * planes * (inputs + 9 * planes)
      products += out * 4 * planes * (planes + inputs)
    }
    #expect(residual.repeatedOperations(tokens: 3, .blocks) == 2 * Double(products))
  }
}
