import Tensor
import TestSupport
import Testing

@testable import Model

/// A transformer of whose output only some rows are read gives these rows, and all gradients, as if it computed all.
@Suite struct ReadRowsTests {
  @Test(arguments: TowerReferenceTests.sizes) func inDouble(_ sizes: SmallModels.Sizes) throws {
    try compare(Double.self, sizes)
  }
  @Test(arguments: TowerReferenceTests.sizes) func inSinglePrecision(_ sizes: SmallModels.Sizes) throws {
    try compare(Float.self, sizes)
  }

  private func compare<S: Scalar>(_: S.Type, _ sizes: SmallModels.Sizes) throws {
    let (whole, read) = (CLIP<S>(sizes.config), CLIP<S>(sizes.config))
    whole.parameters.shake()
    read.parameters.shake()
    let bound = S.roundoff * SmallModels.roundings(sizes.config)
    let captions = TokenBatch(SmallModels.captions(sizes)).sequences
    let images = Sequences(count: captions.count, length: sizes.vision.tokens)
    let middles = (0..<captions.count).map { captions.firsts[$0] + captions[$0].count / 2 }
    let towers = try [whole, read].map { try #require($0.visual as? VisionTransformer<S>).transformer }
    compare(towers[0], towers[1], images, images.firsts, width: sizes.vision.width, bound)
    for rows in [captions.lasts, middles] {
      compare(whole.text.transformer, read.text.transformer, captions, rows, width: sizes.text.width, bound)
    }
    for entry in whole.parameters.entries {
      let (found, expected) = (read.parameters.gradient(of: entry), whole.parameters.gradient(of: entry))
      let deviation = Deviation(found.array, from: expected.doubles)
      #expect(deviation.absolute <= 4 * bound * max(deviation.size, 1), "\(entry.name): \(deviation)")
      #expect(deviation.size > 0 || !entry.name.contains("resblocks"), "\(entry.name)")
    }
  }

  private func compare<S: Scalar>(
    _ whole: Transformer<S>, _ read: Transformer<S>, _ sequences: Sequences, _ rows: [Int], width: Int,
    _ bound: Double
  ) {
    let x = Tensor<S>.random(Shape(sequences.total, width), "x")
    let (dy, expected) = (Tensor<S>.random(Shape(rows.count, width), "dy"), Tensor<S>(Shape(rows.count, width)))
    let (dx, expectedDX) = (Tensor<S>(x.shape), Tensor<S>(x.shape))
    gatherRows(whole.forward(x, sequences, mode: .training), rows, into: expected)
    let output = Deviation(
      read.forward(x, sequences, rows: rows, mode: .training).array, from: expected.doubles)
    #expect(output.relative <= bound, "\(output)")
    scatterRows(dy, rows, into: expectedDX)
    whole.backward(expectedDX, x: x, sequences)
    fill(dx, .nan)
    read.backward(dx, x: x, sequences, read: (rows, dy))
    let input = Deviation(dx.array, from: expectedDX.doubles)
    #expect(input.absolute <= 4 * bound * max(input.size, 1), "\(input)")
  }

  /// The operations of a forward by hand: of the last block keys and values of all rows, and the rest of one.
  @Test func operations() {
    let config = CLIPConfig(
      embedding: 5, vision: VisionConfig(imageSize: 6, patchSize: 3, width: 4, layers: 2, headWidth: 2),
      text: TextConfig(contextLength: 6, vocabularySize: 9, width: 6, heads: 2, layers: 1))
    // Four patches of 27 numbers, five tokens, 16 hidden units.
    let first = 5 * (4 * 4 * 4 + 2 * 4 * 16) + 2 * 5 * 5 * 4
    let last = 5 * 2 * 4 * 4 + (2 * 4 * 4 + 2 * 4 * 16) + 2 * 5 * 4
    #expect(config.vision.forwardOperations(embedding: 5) == Double(2 * (4 * 27 * 4 + first + last + 4 * 5)))
    // Three tokens, 24 hidden units.
    let text = 3 * 2 * 6 * 6 + (2 * 6 * 6 + 2 * 6 * 24) + 2 * 3 * 6 + 6 * 5
    #expect(config.forwardOperations(tokens: 3) == config.vision.forwardOperations(embedding: 5) + Double(2 * text))
  }
}
