import TestSupport
import Testing

@testable import Model
@testable import Tensor

/// The parameters that a tower in bf16 reads only rounded, so that they may travel rounded between ranks.
@Suite struct OperandTests {
  private static let configs = [
    CLIPConfig(
      embedding: 5, vision: VisionConfig(imageSize: 11, patchSize: 3, width: 21, layers: 2, headWidth: 7),
      text: TextConfig(contextLength: 6, vocabularySize: 9, width: 10, heads: 2, layers: 2)),
    CLIPConfig(
      embedding: 12, vision: VisionConfig(imageSize: 32, stages: [1, 2, 1, 1], width: 8, headWidth: 32),
      text: TextConfig(contextLength: 6, vocabularySize: 11, width: 24, heads: 2, layers: 1)),
  ]

  /// Rounds the numbers in these ranges of the arena where they are.
  private func roundInPlace<S: Scalar>(_ values: Tensor<S>, _ ranges: [Range<Int>]) {
    for range in ranges {
      let rounded = BFloat16Buffer().tensor(Shape(range.count))
      round(values.slice(range), into: rounded)
      copy(MatrixOperand<S>.bf16(rounded), into: values.slice(range))
    }
  }

  /// Returns features in both modes, and all gradients.
  private func results<S: Scalar>(_ model: CLIP<S>) -> [[S]] {
    let (size, count) = (model.config.vision.imageSize, 3)
    let images = Tensor<S>.random(Shape(count, 3, size, size), "images", bound: 2)
    let last = Int32(model.config.text.vocabularySize - 1)
    let captions = TokenBatch((0..<count).map { row in (0...row).map { Int32($0) } + [last] })
    fill(model.parameters.gradients, 0)
    var found: [[S]] = []
    for mode in [ForwardMode.evaluation, .training] {
      found.append(model.visual.forward(images, mode: mode).array)
      found.append(model.text.forward(captions, mode: mode).array)
    }
    let gradient = Tensor<S>.random(Shape(count, model.config.embedding), "gradient")
    model.text.backward(gradient)
    model.visual.backward(gradient)
    return found + [model.parameters.gradients.array]
  }

  @Test(arguments: configs) func roundingThemChangesNoBit(config: CLIPConfig) {
    compare(Float.self, config)
    compare(Double.self, config)
  }

  private func compare<S: Scalar>(_: S.Type, _ config: CLIPConfig) {
    let model = CLIP<S>(config, precision: .bf16)
    model.parameters.shake()
    let (before, values) = (results(model), model.parameters.values.array)
    let extents = model.roundedExtents
    roundInPlace(model.parameters.values, extents)
    #expect(model.parameters.values.array != values)
    #expect(results(model) == before)

    // All other matrices are read in fp32: those of embeddings, of attention pools, and the towers' last projections.
    let others = model.entries.filter { entry in !extents.contains { $0.contains(entry.offset) } }
    let read = ["embedding.weight", "positional_embedding", "proj", "text_projection"]
    for entry in others where entry.shape.rank >= 2 && !entry.name.contains("attnpool") {
      #expect(read.contains { entry.name.hasSuffix($0) }, "\(entry.name)")
    }
    #expect(others.contains { $0.name == "ln_final.weight" })
    let norm = model.entries.filter { $0.name.hasPrefix("ln_final.weight") }
    roundInPlace(model.parameters.values, norm.map(\.range))
    #expect(results(model) != before)
    #expect(CLIP<S>(config).roundedExtents.isEmpty)
  }
}
