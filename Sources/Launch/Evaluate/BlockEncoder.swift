import Dist
import Foundation
import Model
import Synchronization
import Tensor

/// Computes embeddings of many images or captions on all ranks.
///
/// The bits of a row depend on the height of the matrix product that computes it. So items are encoded in blocks of a
/// fixed height, in their order, and whole blocks are dealt to the ranks: the embeddings are the same on any number of
/// them.
struct BlockEncoder {
  /// The number of items that are encoded together.
  static let height = 64

  let embedder: any Embedder
  let communicator: Communicator
  /// If true, the results are the towers' features as they are, and not scaled to length 1.
  var isRaw = false
  /// All ranks call it equally often, before each block. If it throws on all of them together, the encoding ends.
  var pause: () throws -> Void = {}

  /// Returns embeddings [n, d] of the images of a dataset, in its order, on every rank. They have length 1 unless
  /// `isRaw`.
  func images(of dataset: Dataset, samples: [Int]) throws -> Tensor<Float> {
    let loader = ImageBlock.loader(
      dataset, samples: samples, blocks: communicator.slice(of: Self.blocks(samples.count)), options: embedder.image)
    return try images(samples.count, loader) { row in "the image “\(dataset.key(samples[row]))” of \(dataset.name)" }
  }

  /// Returns embeddings [n, d] of image files, in their order, on every rank, and the files that could not be read,
  /// whose rows are meaningless. The embeddings have length 1 unless `isRaw`.
  ///
  /// - Parameter skipping: if false, the first file that cannot be read ends the encoding with an error.
  func images(
    files: [String], skipping: Bool
  ) throws -> (rows: Tensor<Float>, faults: [ImageFault]) {
    let faults = Mutex<[ImageFault]>([])
    let loader = ImageBlock.loader(
      count: files.count, blocks: communicator.slice(of: Self.blocks(files.count)), options: embedder.image,
      read: { index, bytes in bytes = try UserFiles.read(files[index], limit: ImageCheck.mostBytes) },
      fail: { index, error in
        let reason = (error as? ImportReason)?.words ?? "\(error)"
        guard skipping else { throw EvaluationError.badImage(path: files[index], reason: reason) }
        faults.withLock { $0.append(ImageFault(image: index, reason: reason)) }
      })
    let rows = try images(files.count, loader) { row in "the image “\(files[row])”" }
    let all = try communicator.allGather(faults.withLock { $0 }).flatMap { $0 }
    return (rows, all.sorted { $0.image < $1.image })
  }

  private func images(
    _ count: Int, _ loader: Prefetcher<Int, ImageBlock>, _ name: (Int) -> String
  ) throws -> Tensor<Float> {
    try embeddings(count, name) { rows in
      guard let block = try loader.next() else { preconditionFailure("a block was planned for each call") }
      defer { loader.recycle(block) }
      return embedder.features(images: block.images(rows.count))
    }
  }

  /// Returns embeddings [n, d] of texts, in their order, on every rank. They have length 1 unless `isRaw`.
  func texts(_ texts: [String]) throws -> Tensor<Float> {
    let name = { (row: Int) in "the text “\(texts[row])”" }
    return try embeddings(texts.count, name) { rows in
      embedder.features(captions: texts[rows].map { embedder.tokenizer.encode($0) })
    }
  }

  private static func blocks(_ count: Int) -> Int { (count + height - 1) / height }

  private func embeddings(
    _ count: Int, _ name: (Int) -> String, of block: (Range<Int>) throws -> Tensor<Float>
  ) throws -> Tensor<Float> {
    let width = embedder.width
    let all = Tensor<Float>(Shape(count, width))
    let own = communicator.slice(of: Self.blocks(count))
    for round in 0..<(communicator.slices(of: Self.blocks(count)).map(\.count).max() ?? 0) {
      try pause()
      guard round < own.count else { continue }
      let index = own.lowerBound + round
      let rows = index * Self.height..<min((index + 1) * Self.height, count)
      copy(try block(rows), into: all.rows(rows))
      for row in rows where !sumOfSquares(all.rows(row..<row + 1)).isFinite {
        throw EvaluationError.notFinite(item: name(row))
      }
    }
    let parts = communicator.slices(of: Self.blocks(count)).map { blocks in
      min(blocks.lowerBound * Self.height, count) * width..<min(blocks.upperBound * Self.height, count) * width
    }
    try communicator.allGather(partsOf: all, ranges: parts)
    return isRaw ? all : unitRows(all)
  }
}

/// An image file that could not be prepared.
struct ImageFault: Codable, Equatable, Sendable {
  /// The file's number.
  let image: Int
  let reason: String
}

/// A model as evaluations use it: the preparation of its images and captions, and their features.
protocol Embedder: AnyObject {
  /// The width d of an embedding.
  var width: Int { get }
  var image: ImageOptions { get }
  var tokenizer: BytePairTokenizer { get }

  /// Returns raw features [b, d] of prepared images [b, 3, n, n].
  func features(images: Tensor<Float>) -> Tensor<Float>
  /// Returns raw features [b, d] of tokenized captions.
  func features(captions: [[Int32]]) -> Tensor<Float>
}

/// The towers of a CLIP model.
final class CLIPEmbedder: Embedder {
  let model: CLIP<Float>
  let image: ImageOptions
  let tokenizer: BytePairTokenizer

  init(_ model: CLIP<Float>, image: ImageOptions, tokenizer: BytePairTokenizer) {
    self.model = model
    self.image = image
    self.tokenizer = tokenizer
  }

  var width: Int { model.config.embedding }

  func features(images: Tensor<Float>) -> Tensor<Float> { model.visual.forward(images, mode: .evaluation) }
  func features(captions: [[Int32]]) -> Tensor<Float> { model.text.forward(TokenBatch(captions), mode: .evaluation) }
}

/// Memory for a block of prepared images, which is used again and again.
final class ImageBlock: Sendable {
  private let tensor: Tensor<Float>
  private let size: Int

  /// - Parameters:
  ///   - height: the number of images.
  ///   - size: the side n of each in pixels.
  init(height: Int, size: Int) {
    self.size = size
    tensor = Tensor(Shape(height, 3, size, size))
  }

  /// Returns the first `count` images [count, 3, n, n].
  func images(_ count: Int) -> Tensor<Float> {
    tensor.slice(0..<count * 3 * size * size).reshaped(Shape(count, 3, size, size))
  }

  /// Returns one image [3, n, n].
  func image(_ row: Int) -> Tensor<Float> {
    tensor.slice(row * 3 * size * size..<(row + 1) * 3 * size * size).reshaped(Shape(3, size, size))
  }

  /// Returns a loader that reads and prepares the given blocks of a dataset's `samples` ahead of their use.
  static func loader(
    _ dataset: Dataset, samples: [Int], blocks: Range<Int>, options: ImageOptions
  ) -> Prefetcher<Int, ImageBlock> {
    loader(
      count: samples.count, blocks: blocks, options: options,
      read: { index, bytes in try dataset.readImage(samples[index], into: &bytes) },
      fail: { index, error in
        guard error is ImageError else { throw error }
        throw SampleError(dataset: dataset.name, key: dataset.key(samples[index]), reason: error)
      })
  }

  /// Returns a loader that reads and prepares the given blocks of `count` images ahead of their use, on as many threads
  /// as there are cores.
  ///
  /// - Parameters:
  ///   - read: puts the bytes of an image, given by its number, into the array.
  ///   - fail: handles an image that cannot be prepared. If it does not throw, the image is all zeros.
  static func loader(
    count: Int, blocks: Range<Int>, options: ImageOptions,
    read: @escaping @Sendable (Int, inout [UInt8]) throws -> Void,
    fail: @escaping @Sendable (Int, any Error) throws -> Void
  ) -> Prefetcher<Int, ImageBlock> {
    let height = BlockEncoder.height
    return Prefetcher(
      steps: blocks, batches: (0..<2).map { _ in ImageBlock(height: height, size: options.size) },
      workers: Threads.count,
      plan: { index in Array(index * height..<min((index + 1) * height, count)) },
      worker: {
        let preparation = try ImagePreparation(options, seed: 0)
        var bytes: [UInt8] = []
        return { block, row, index in
          do {
            try read(index, &bytes)
            try preparation.prepareEvaluation(bytes, into: block.image(row))
          } catch {
            try fail(index, error)
            fill(block.image(row), 0)
          }
        }
      })
  }
}
