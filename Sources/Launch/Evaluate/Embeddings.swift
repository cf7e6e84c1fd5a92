import Dist
import Foundation
import Model
import Synchronization
import Tensor

/// Computes embeddings of many images or captions on all ranks. The bits of a row depend on the height of the matrix
/// product that computes it: so items are encoded in blocks of a fixed height, in their order, and whole blocks are
/// dealt to the ranks. Each rank keeps the rows that it has computed.
struct BlockEncoder {
  static let height = 64
  let embedder: CLIPEmbedder
  let communicator: Communicator
  /// If true, the results are the towers' features as they are, and not scaled to length 1.
  var isRaw = false
  /// All ranks call it equally often, before each block. If it throws on all of them together, the encoding ends.
  var pause: () throws -> Void = {}

  /// Returns embeddings [n, d] of a dataset's images in its order, of length 1 unless `isRaw`.
  func images(of dataset: Dataset, samples: [Int]) throws -> DistributedRows {
    try images(
      samples.count, name: { "the image “\(dataset.key(samples[$0]))” of \(dataset.name)" },
      read: { index, bytes in try dataset.readImage(samples[index], into: &bytes) },
      fail: { index, error in
        guard error is ImageError else { throw error }
        throw dataset.cannotPrepare(samples[index], error)
      })
  }

  /// Returns embeddings likewise of image files, and the files that could not be read, whose rows are meaningless.
  /// Unless `skipping`, the first of these ends the encoding with an error.
  func images(_ items: EmbeddingItems, skipping: Bool) throws -> (rows: DistributedRows, faults: [ImageFault]) {
    let files = items.images
    let faults = Mutex<[ImageFault]>([])
    let rows = try images(
      files.count, name: { items.name(ofImage: $0) },
      read: { index, bytes in bytes = try UserFiles.read(files[index], limit: ImageCheck.mostBytes) },
      fail: { index, error in
        let fault = ImageFault(image: index, reason: (error as? ImportReason)?.words ?? "\(error)")
        guard skipping else { throw items.error(fault) }
        faults.withLock { $0.append(fault) }
      })
    let all = try communicator.allGather(faults.withLock { $0 }).flatMap { $0 }
    return (rows, all.sorted { $0.image < $1.image })
  }

  /// Encodes `count` images, prepared ahead of their use on as many threads as there are cores. `read` puts an image's
  /// bytes into the array; if `fail` does not throw for an image that cannot be prepared, it is all zeros.
  private func images(
    _ count: Int, name: (Int) -> String, read: @escaping @Sendable (Int, inout [UInt8]) throws -> Void,
    fail: @escaping @Sendable (Int, any Error) throws -> Void
  ) throws -> DistributedRows {
    let options = embedder.image
    let loader = Prefetcher<Int, ModelInput>(
      steps: communicator.slice(of: Self.blocks(count)),
      batches: (0..<2).map { _ in ModelInput(rows: Self.height, size: options.size) }, workers: Threads.count,
      append: { $1 += BlockEncoder.rows(of: $0, count) },
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
    return try embeddings(count, name) { rows in
      guard let block = try loader.next() else { preconditionFailure("a block was planned for each call") }
      defer { loader.recycle(block) }
      return embedder.model.visual.forward(block.images.samples(0..<rows.count), mode: .evaluation)
    }
  }

  /// Returns embeddings likewise of `count` texts, of which each rank asks for its own.
  func texts(_ count: Int, text: (Int) -> String) throws -> DistributedRows {
    func name(_ row: Int) -> String { "the text “\(text(row))”" }
    return try embeddings(count, name) { rows in
      guard let tokenizer = embedder.tokenizer else { preconditionFailure("the model was loaded for images alone") }
      let captions = rows.map { tokenizer.encode(text($0)) }
      return embedder.model.text.forward(TokenBatch(captions), mode: .evaluation)
    }
  }

  func texts(_ texts: [String]) throws -> DistributedRows { try self.texts(texts.count) { texts[$0] } }

  private static func blocks(_ count: Int) -> Int { (count + height - 1) / height }

  /// The items of a block, of `count` in all.
  private static func rows(of block: Int, _ count: Int) -> Range<Int> {
    block * height..<min((block + 1) * height, count)
  }

  private func embeddings(
    _ count: Int, _ name: (Int) -> String, of block: (Range<Int>) throws -> Tensor<Float>
  ) throws -> DistributedRows {
    let slices = communicator.slices(of: Self.blocks(count))
    func first(_ block: Int) -> Int { min(block * Self.height, count) }
    let ranges = slices.map { first($0.lowerBound)..<first($0.upperBound) }
    let (own, range) = (slices[communicator.rank], ranges[communicator.rank])
    let embeddings = Tensor<Float>(Shape(range.count, embedder.model.config.embedding))
    for round in 0..<(slices.map(\.count).max() ?? 0) {
      // The ranks go on together: one that waited for a slower one until the end would look as if it hung.
      try communicator.barrier()
      try pause()
      guard round < own.count else { continue }
      let rows = Self.rows(of: own.lowerBound + round, count)
      let start = rows.lowerBound - range.lowerBound
      let target = embeddings.rows(start..<start + rows.count)
      copy(try block(rows), into: target)
      try target.requireFinite(0..<rows.count) { name(rows.lowerBound + $0) }
    }
    if !isRaw { normalizeRows(embeddings, into: embeddings, reciprocal: Tensor(Shape(range.count))) }
    return DistributedRows(embeddings, ranges: ranges, over: communicator)
  }
}

extension Tensor<Float> {
  /// Throws a `UserError` with its name if one of these rows is not finite.
  func requireFinite(_ range: Range<Int>, _ name: (Int) -> String) throws {
    for row in range where !sumOfSquares(rows(row..<row + 1)).isFinite {
      throw UserError(
        "the embedding of \(name(row)) is not finite; the model has diverged: take an earlier checkpoint",
        status: .notFinite)
    }
  }
}

struct ImageFault: Codable, Equatable, Sendable {
  let image: Int
  let reason: String
}

/// A CLIP model with the preparation of its images and captions.
struct CLIPEmbedder {
  let model: CLIP<Float>
  var image: ImageOptions
  /// This is nil if there are no texts to embed and no vocabulary was named.
  let tokenizer: BytePairTokenizer?
}

extension CLIPEmbedder {
  /// Takes the vocabulary at `path`, or, if there are `texts` to embed, at the run's own path.
  init(_ trained: TrainedModel, vocabulary path: String?, texts: Bool = true) throws {
    let words = try path != nil || texts ? trained.saved.readVocabulary(at: path) : nil
    let context = trained.model.config.text.contextLength
    self.init(
      model: trained.model, image: trained.saved.image,
      tokenizer: words.map { BytePairTokenizer(vocabulary: $0, context: context) })
  }

  /// Writes to standard error how images are prepared, because embeddings depend on it.
  func reportPreparation() { Job.report("kinship: images: \(image.evaluationText) (--alpha overrides it)") }
}

/// The image files and texts that `kinship embed` encodes.
struct EmbeddingItems: Codable, Equatable {
  var images: [String] = []
  var texts: [String] = []
  /// The text file that names images, and how many; these are the last ones.
  var list: String?
  var listed = 0

  func name(ofImage index: Int) -> String {
    let origin = list.map { index < images.count - listed ? "" : " of \($0)" }
    return "the image “\(images[index])”\(origin ?? "")"
  }

  func error(_ fault: ImageFault) -> UserError {
    let advice = "leave it out, or skip all such images with --skip-bad"
    return UserError("\(name(ofImage: fault.image)) cannot be embedded: \(fault.reason); \(advice)")
  }

  /// Returns the images that a name stands for: a file; a folder's and those below it, by the bytes of their paths; or
  /// those that match a pattern with *, ? or [ ], in that order.
  static func images(_ name: String) throws -> [String] {
    let matches = UserFiles.matches(name)
    guard !matches.isEmpty else {
      // A file that does not exist is reported later, like any image that cannot be read.
      guard UserFiles.isPattern(name) else { return [name] }
      throw UserError(name, "expected files that the pattern matches, found nothing")
    }
    return try matches.flatMap { try UserFiles.isFolder($0) == true ? images(inFolder: $0) : [$0] }
  }

  private static func images(inFolder folder: String) throws -> [String] {
    let images = try FolderSource.list(folder).images
    guard !images.isEmpty else {
      let endings = FolderSource.extensions.sorted().joined(separator: ", ")
      throw UserError(folder, "expected images (\(endings)), found nothing")
    }
    return images.map { (folder.hasSuffix("/") ? folder : folder + "/") + $0 }
  }
}
