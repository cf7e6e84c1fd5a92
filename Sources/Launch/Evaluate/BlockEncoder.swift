import Dist
import Foundation
import Model
import Synchronization
import Tensor

/// A picture file that could not be prepared.
struct PictureFault: Codable, Equatable, Sendable {
  /// Its number among the files.
  let picture: Int
  let reason: String
}

/// Embeddings of many pictures or captions, computed by all ranks.
///
/// The same row gives other bits in a matrix product of another height. So items are encoded in blocks of a fixed
/// height, in their order, and whole blocks are dealt to the ranks: the embeddings are the same on any number of them.
struct BlockEncoder {
  /// Items that are encoded together.
  static let height = 64

  let embedder: any Embedder
  let communicator: Communicator
  /// Features as the towers give them, and not of length one.
  var isRaw = false
  /// Called by all ranks equally often, before each block; what it throws on all of them together ends the encoding.
  var pause: () throws -> Void = {}

  /// Embeddings [n, d], of length one unless `isRaw`, of the pictures of a corpus, in its order, on every rank.
  func pictures(of corpus: Corpus, samples: [Int]) throws -> Tensor<Float> {
    let loader = PictureBlock.loader(
      corpus, samples: samples, blocks: communicator.slice(of: Self.blocks(samples.count)), options: embedder.image)
    return try pictures(samples.count, loader) { row in "the picture “\(corpus.key(samples[row]))” of \(corpus.name)" }
  }

  /// Embeddings [n, d], of length one unless `isRaw`, of picture files, in their order, on every rank; and why some
  /// could not be read, by their number. The rows of those mean nothing.
  ///
  /// - Parameter skipping: whether such pictures are noted; otherwise the first one ends the encoding.
  func pictures(
    files: [String], skipping: Bool
  ) throws -> (rows: Tensor<Float>, faults: [PictureFault]) {
    let faults = Mutex<[PictureFault]>([])
    let loader = PictureBlock.loader(
      count: files.count, blocks: communicator.slice(of: Self.blocks(files.count)), options: embedder.image,
      read: { index, bytes in
        switch RegularFile.read(files[index], limit: PictureCheck.mostBytes) {
        case .success(let read): bytes = read
        case .failure(let reason): throw reason
        }
      },
      fail: { index, error in
        let reason = (error as? RegularFile.Reason)?.words ?? "\(error)"
        guard skipping else { throw EvaluationError.badPicture(path: files[index], reason: reason) }
        faults.withLock { $0.append(PictureFault(picture: index, reason: reason)) }
      })
    let rows = try pictures(files.count, loader) { row in "the picture “\(files[row])”" }
    let own = try JSONEncoder().encode(faults.withLock { $0 })
    let all = try communicator.allGather([UInt8](own)).flatMap {
      try JSONDecoder().decode([PictureFault].self, from: Data($0))
    }
    return (rows, all.sorted { $0.picture < $1.picture })
  }

  private func pictures(
    _ count: Int, _ loader: Prefetcher<Int, PictureBlock>, _ name: (Int) -> String
  ) throws -> Tensor<Float> {
    try embeddings(count, name) { rows in
      guard let block = try loader.next() else { preconditionFailure("a block was planned for each call") }
      defer { loader.recycle(block) }
      return embedder.features(pictures: block.pictures(rows.count))
    }
  }

  /// Embeddings [n, d], of length one unless `isRaw`, of texts, in their order, on every rank.
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
    try communicator.gatherSlices(in: all, ranges: parts)
    return isRaw ? all : unitRows(all)
  }
}
