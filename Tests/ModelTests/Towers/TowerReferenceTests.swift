import Tensor
import TestSupport
import Testing

@testable import Model

/// The towers against plain loops, and packed captions against padded ones.
@Suite struct TowerReferenceTests {
  static let sizes =
    SmallModels.all + [
      SmallModels.Sizes(
        name: "wider", embedding: 11,
        vision: VisionConfig(imageSize: 11, patchSize: 3, width: 26, layers: 3, headWidth: 13),
        text: TextConfig(contextLength: 13, vocabularySize: 31, width: 21, heads: 3, layers: 3),
        lengths: [13, 2, 5, 7, 1])
    ]

  private func model<S: Scalar>(_ sizes: SmallModels.Sizes) -> CLIP<S> {
    let model = CLIP<S>(sizes.config)
    model.parameters.shake()
    return model
  }

  @Test(arguments: sizes) func featuresInDouble(_ sizes: SmallModels.Sizes) { compare(Double.self, sizes) }
  @Test(arguments: sizes) func featuresInSinglePrecision(_ sizes: SmallModels.Sizes) { compare(Float.self, sizes) }

  private func compare<S: Scalar>(_: S.Type, _ sizes: SmallModels.Sizes) {
    let model: CLIP<S> = model(sizes)
    let batch: (images: Tensor<S>, tokens: TokenBatch) = SmallModels.batch(sizes)
    let store = model.parameters
    let plain = PlainCLIP(
      config: sizes.config,
      parameters: Dictionary(uniqueKeysWithValues: store.entries.map { ($0.name, store.value(of: $0).doubles) }))
    let pixels = batch.images.doubles
    let size = pixels.count / sizes.lengths.count
    let images = sizes.lengths.indices.flatMap { plain.feature(ofImage: Array(pixels[$0 * size..<($0 + 1) * size])) }
    let texts = SmallModels.captions(sizes).flatMap { plain.feature(ofText: $0) }
    let bound = S.roundoff * SmallModels.roundings(sizes.config)
    let image = Deviation(model.visual.forward(batch.images, mode: .evaluation).array, from: images)
    let text = Deviation(model.text.forward(batch.tokens, mode: .evaluation).array, from: texts)
    #expect(image.relative <= bound, "images: \(image); bound \(bound)")
    #expect(text.relative <= bound, "captions: \(text); bound \(bound)")
  }

  /// Captions padded with 0 to the whole context run through the same blocks; only the end-of-text rows are read, as
  /// open_clip does. Features and every gradient are those of the packed form.
  @Test(arguments: sizes) func packedCaptionsEqualPaddedOnes(_ sizes: SmallModels.Sizes) {
    let (packed, padded): (CLIP<Double>, CLIP<Double>) = (model(sizes), model(sizes))
    let captions = SmallModels.captions(sizes)
    let shape = Shape(captions.count, sizes.embedding)
    let dfeatures = Tensor<Double>.random(shape, "dfeatures")
    let features = packed.text.forward(TokenBatch(captions), mode: .training)
    packed.text.backward(dfeatures)
    let expected = runPadded(padded.text, captions, dfeatures)

    let bound = Double.roundoff * SmallModels.roundings(sizes.config)
    let deviation = Deviation(features.array, from: expected.array)
    #expect(deviation.relative <= bound, "\(deviation)")
    for entry in packed.parameters.entries where !entry.name.hasPrefix("visual.") {
      let gradient = padded.parameters.gradient(of: entry)
      let deviation = Deviation(packed.parameters.gradient(of: entry).array, from: gradient.array)
      // A gradient that is zero but for rounding has no size of its own.
      #expect(deviation.absolute <= 4 * bound * max(deviation.size, 1), "\(entry.name): \(deviation)")
    }
  }

  private func runPadded(
    _ tower: TextTransformer<Double>, _ captions: [[Int32]], _ dfeatures: Tensor<Double>
  ) -> Tensor<Double> {
    let (context, w) = (tower.config.contextLength, tower.config.width)
    let ids = captions.flatMap { $0 + [Int32](repeating: 0, count: context - $0.count) }
    let ends = captions.indices.map { $0 * context + captions[$0].count - 1 }
    let sequences = Sequences(count: captions.count, length: context)
    let x = Tensor<Double>(Shape(ids.count, w))
    embed(ids, sequences, table: tower.tokenEmbedding.value, positions: tower.positions.value, into: x)
    let z = tower.transformer.forward(x, sequences, mode: .training)
    let (rows, normed) = (Tensor<Double>(Shape(ends.count, w)), Tensor<Double>(Shape(ends.count, w)))
    let activations = LayerNorm<Double>.Activations()
    gatherRows(z, ends, into: rows)
    tower.head.norm.forward(rows, into: .fp32(normed), activations: activations)
    let features = Tensor<Double>(dfeatures.shape)
    matmul(normed, tower.head.projection.value, into: features)

    let (dnormed, drows) = (Tensor<Double>(rows.shape), Tensor<Double>(rows.shape))
    matmul(dfeatures, tower.head.projection.value, into: dnormed, transposeB: true)
    matmul(normed, dfeatures, into: tower.head.projection.gradient, transposeA: true, beta: 1)
    tower.head.norm.backward(dnormed, x: rows, activations: activations, dx: drows)
    let dx = Tensor<Double>(x.shape)
    scatterRows(drows, ends, into: dx)
    tower.transformer.backward(dx, x: x, sequences)
    embedBackward(dx, ids, sequences, dtable: tower.tokenEmbedding.gradient, dpositions: tower.positions.gradient)
    return features
  }

  /// Tokens after the end of text, and the other captions of the batch, have no effect.
  @Test func aCaptionDependsOnItselfAlone() {
    let model: CLIP<Double> = model(Self.sizes[3])
    let caption: [Int32] = [28, 3, 4, 30]
    let alone = model.text.forward(TokenBatch([caption]), mode: .evaluation).array
    let behind = model.text.forward(TokenBatch([caption + [7, 7, 30]]), mode: .evaluation).array
    #expect(behind == alone)
    let others = model.text.forward(TokenBatch([[1, 2, 30], caption, [30]]), mode: .evaluation).rows(1..<2).array
    let deviation = Deviation(others, from: alone)
    #expect(deviation.relative <= Double.roundoff * SmallModels.roundings(model.config), "\(deviation)")
  }

  @Test func captionsAreCutBehindTheFirstOfTheirLargestIDs() {
    let batch = TokenBatch([[5, 9, 1, 9], [3], [2, 1]])
    #expect(batch.ids == [5, 9, 3, 2])
    #expect(batch.sequences.offsets == [0, 2, 3, 4] && batch.sequences.lasts == [1, 2, 3])
    #expect(batch.count == 3 && batch.sequences.longest == 2)
  }
}
