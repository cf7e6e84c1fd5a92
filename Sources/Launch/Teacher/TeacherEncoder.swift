import Dist
import Model
import Tensor

/// A teacher that embeds crops and captions of datasets in blocks.
struct TeacherEncoder {
  struct Crop {
    let sample: Int
    let view: Int
  }
  let model: CLIP<Float>
  let input: InputOptions
  let seed: UInt64

  /// Returns a loader of blocks of at most `height` crops, which `crops` returns for each block.
  func loader(
    _ dataset: Dataset, blocks: Int, height: Int, workers: Int, crops: @escaping @Sendable (Int) -> [Crop]
  ) -> Prefetcher<Crop, ModelInput> {
    Prefetcher(
      steps: 0..<blocks, batches: (0..<2).map { _ in ModelInput(rows: height, size: input.image.size) },
      workers: workers, append: { $1 += crops($0) },
      worker: { [image = input.image, seed] in
        let preparation = try ImagePreparation(image, seed: seed)
        var bytes: [UInt8] = []
        return { block, row, crop in
          try dataset.readImage(crop.sample, into: &bytes)
          do {
            try preparation.prepareTraining(
              bytes, sampleID: dataset.sampleID(crop.sample), view: crop.view, into: block.image(row))
          } catch { throw dataset.cannotPrepare(crop.sample, error) }
        }
      })
  }

  /// Returns unit embeddings [b, d] of prepared images [b, 3, n, n]. Throws with a row's name if it is not finite.
  func embed(_ images: Tensor<Float>, name: (Int) -> String) throws -> Tensor<Float> {
    try unit(model.visual.forward(images, mode: .evaluation), name)
  }

  /// Returns unit embeddings [b, d] of captions, likewise.
  func embed(_ captions: [String], name: (Int) -> String) throws -> Tensor<Float> {
    try unit(model.text.forward(TokenBatch(captions.map { input.tokenizer.encode($0) }), mode: .evaluation), name)
  }

  private func unit(_ features: Tensor<Float>, _ name: (Int) -> String) throws -> Tensor<Float> {
    try features.requireFinite(0..<features.rows, name)
    return unitRows(features)
  }
}
