import Dist
import Foundation
import Model
import Tensor

/// A teacher that embeds crops and captions of datasets in blocks.
struct TeacherEncoder {
  /// One crop of an image.
  struct Crop {
    let sample: Int
    let view: Int
  }

  let model: CLIP<Float>
  let input: InputOptions
  /// The run's `data.seed`, on which the crops depend.
  let seed: UInt64

  /// Returns a loader that prepares `blocks` blocks of at most `height` crops ahead of their use. `crops` returns the
  /// crops of a block.
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

  /// Returns unit embeddings [b, d] of prepared images [b, 3, n, n]. Throws if one is not finite, with the name of its
  /// row.
  func embed(_ images: Tensor<Float>, name: (Int) -> String) throws -> Tensor<Float> {
    try unit(model.visual.forward(images, mode: .evaluation), name)
  }

  /// Returns unit embeddings [b, d] of captions, likewise.
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
