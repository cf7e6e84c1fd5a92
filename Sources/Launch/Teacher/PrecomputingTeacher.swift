import Dist
import Foundation
import Model
import Tensor

/// One crop of one image.
struct Crop: Hashable {
  let sample: Int
  let view: Int
}

/// A teacher that embeds crops and captions of a dataset, a fixed block at a time.
final class PrecomputingTeacher {
  let input: InputOptions
  private let model: CLIP<Float>
  private let seed: UInt64

  /// `seed` is the run's `data.seed`.
  init(_ model: CLIP<Float>, _ input: InputOptions, seed: UInt64) {
    self.model = model
    self.input = input
    self.seed = seed
  }

  var logitScale: Float { model.logitScale.value[0] }
  var width: Int { model.config.embedding }

  /// Prepares blocks of crops ahead of their use; `crops` gives those of each block, at most `height` of them.
  func loader(
    _ dataset: Dataset, blocks: Int, height: Int, workers: Int, crops: @escaping @Sendable (Int) -> [Crop]
  ) -> Prefetcher<Crop, ImageBlock> {
    Prefetcher(
      steps: 0..<blocks, batches: (0..<2).map { _ in ImageBlock(height: height, size: input.image.size) },
      workers: workers, plan: crops,
      worker: { [image = input.image, seed] in
        let preparation = try ImagePreparation(image, seed: seed)
        var bytes: [UInt8] = []
        return { block, row, crop in
          try dataset.readImage(crop.sample, into: &bytes)
          do {
            try preparation.prepareTraining(
              bytes, sampleID: dataset.sampleID(crop.sample), view: crop.view, into: block.image(row))
          } catch {
            throw SampleError(dataset: dataset.name, key: dataset.key(crop.sample), reason: error)
          }
        }
      })
  }

  /// Unit rows [b, d] of prepared images; `name` says what a row is of, for a model that has diverged.
  func embed(_ images: Tensor<Float>, name: (Int) -> String) throws -> Tensor<Float> {
    try unit(model.visual.forward(images, mode: .evaluation), name)
  }

  /// Unit rows [b, d] of captions.
  func embed(_ captions: [String], name: (Int) -> String) throws -> Tensor<Float> {
    try unit(model.text.forward(TokenBatch(captions.map { input.tokenizer.encode($0) }), mode: .evaluation), name)
  }

  private func unit(_ features: Tensor<Float>, _ name: (Int) -> String) throws -> Tensor<Float> {
    for row in 0..<features.rows where !sumOfSquares(features.rows(row..<row + 1)).isFinite {
      throw EvaluationError.notFinite(item: name(row))
    }
    return unitRows(features)
  }
}
