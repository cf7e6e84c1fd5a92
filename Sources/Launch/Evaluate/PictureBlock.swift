import Dist
import Model
import Tensor

/// Room for a block of prepared pictures, used again and again.
final class PictureBlock: Sendable {
  private let tensor: Tensor<Float>
  private let size: Int

  init(height: Int, size: Int) {
    self.size = size
    tensor = Tensor(Shape(height, 3, size, size))
  }

  /// The first `count` pictures, [count, 3, n, n].
  func pictures(_ count: Int) -> Tensor<Float> {
    tensor.slice(0..<count * 3 * size * size).reshaped(Shape(count, 3, size, size))
  }

  func picture(_ row: Int) -> Tensor<Float> {
    tensor.slice(row * 3 * size * size..<(row + 1) * 3 * size * size).reshaped(Shape(3, size, size))
  }

  /// Reads and prepares the given blocks of `samples` ahead of their use, on as many threads as there are cores.
  static func loader(
    _ corpus: Corpus, samples: [Int], blocks: Range<Int>, options: ImageOptions
  ) -> Prefetcher<Int, PictureBlock> {
    let height = BlockEncoder.height
    return Prefetcher(
      steps: blocks, batches: (0..<2).map { _ in PictureBlock(height: height, size: options.size) },
      workers: Threads.count,
      plan: { index in Array(samples[index * height..<min((index + 1) * height, samples.count)]) },
      worker: {
        let preparation = try ImagePreparation(options, seed: 0)
        var bytes: [UInt8] = []
        return { block, row, sample in
          try corpus.readImage(sample, into: &bytes)
          do {
            try preparation.prepareEvaluation(bytes, into: block.picture(row))
          } catch {
            throw SampleError(corpus: corpus.name, key: corpus.key(sample), reason: error)
          }
        }
      })
  }
}
