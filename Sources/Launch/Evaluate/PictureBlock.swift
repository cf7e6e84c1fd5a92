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

  /// Reads and prepares the given blocks of a corpus's `samples` ahead of their use.
  static func loader(
    _ corpus: Corpus, samples: [Int], blocks: Range<Int>, options: ImageOptions
  ) -> Prefetcher<Int, PictureBlock> {
    loader(
      count: samples.count, blocks: blocks, options: options,
      read: { index, bytes in try corpus.readImage(samples[index], into: &bytes) },
      fail: { index, error in
        guard error is ImageError else { throw error }
        throw SampleError(corpus: corpus.name, key: corpus.key(samples[index]), reason: error)
      })
  }

  /// Reads and prepares the given blocks of `count` pictures ahead of their use, on as many threads as there are cores.
  ///
  /// - Parameters:
  ///   - read: puts the bytes of a picture, by its number, into the array.
  ///   - fail: is told of a picture that cannot be prepared; where it does not throw, the picture is all zeros.
  static func loader(
    count: Int, blocks: Range<Int>, options: ImageOptions,
    read: @escaping @Sendable (Int, inout [UInt8]) throws -> Void,
    fail: @escaping @Sendable (Int, any Error) throws -> Void
  ) -> Prefetcher<Int, PictureBlock> {
    let height = BlockEncoder.height
    return Prefetcher(
      steps: blocks, batches: (0..<2).map { _ in PictureBlock(height: height, size: options.size) },
      workers: Threads.count,
      plan: { index in Array(index * height..<min((index + 1) * height, count)) },
      worker: {
        let preparation = try ImagePreparation(options, seed: 0)
        var bytes: [UInt8] = []
        return { block, row, index in
          do {
            try read(index, &bytes)
            try preparation.prepareEvaluation(bytes, into: block.picture(row))
          } catch {
            try fail(index, error)
            fill(block.picture(row), 0)
          }
        }
      })
  }
}
