import Dist
import Foundation
import Model
import Synchronization
import Tensor

/// Computes embeddings of many images or captions on all ranks. The bits of a row depend on the height of the matrix
/// product that computes it: so items are encoded in blocks of a fixed height, in their order, and whole blocks are
/// dealt to the ranks.
struct BlockEncoder {
  static let height = 64
  let embedder: CLIPEmbedder
  let communicator: Communicator
  /// If true, the results are the towers' features as they are, and not scaled to length 1.
  var isRaw = false
  /// All ranks call it equally often, before each block. If it throws on all of them together, the encoding ends.
  var pause: () throws -> Void = {}

  /// Returns embeddings [n, d] of a dataset's images in its order, on every rank, of length 1 unless `isRaw`.
  func images(of dataset: Dataset, samples: [Int]) throws -> Tensor<Float> {
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
  func images(_ items: EmbeddingItems, skipping: Bool) throws -> (rows: Tensor<Float>, faults: [ImageFault]) {
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
  ) throws -> Tensor<Float> {
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

  /// Returns embeddings likewise of texts.
  func texts(_ texts: [String]) throws -> Tensor<Float> {
    let name = { (row: Int) in "the text “\(texts[row])”" }
    return try embeddings(texts.count, name) { rows in
      guard let tokenizer = embedder.tokenizer else { preconditionFailure("the model was loaded for images alone") }
      let captions = texts[rows].map { tokenizer.encode($0) }
      return embedder.model.text.forward(TokenBatch(captions), mode: .evaluation)
    }
  }

  private static func blocks(_ count: Int) -> Int { (count + height - 1) / height }

  /// The items of a block, of `count` in all.
  private static func rows(of block: Int, _ count: Int) -> Range<Int> {
    block * height..<min((block + 1) * height, count)
  }

  private func embeddings(
    _ count: Int, _ name: (Int) -> String, of block: (Range<Int>) throws -> Tensor<Float>
  ) throws -> Tensor<Float> {
    let width = embedder.model.config.embedding
    let all = Tensor<Float>(Shape(count, width))
    let slices = communicator.slices(of: Self.blocks(count))
    let own = slices[communicator.rank]
    for round in 0..<(slices.map(\.count).max() ?? 0) {
      // The ranks go on together: one that waited for a slower one until the end would look as if it hung.
      try communicator.barrier()
      try pause()
      guard round < own.count else { continue }
      let rows = Self.rows(of: own.lowerBound + round, count)
      copy(try block(rows), into: all.rows(rows))
      try all.requireFinite(rows, name)
    }
    func first(_ block: Int) -> Int { min(block * Self.height, count) * width }
    try communicator.allGather(partsOf: all, ranges: slices.map { first($0.lowerBound)..<first($0.upperBound) })
    return isRaw ? all : unitRows(all)
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

/// Embeddings with their names, as `kinship embed` writes them.
struct EmbeddingFile {
  struct Rows {
    let kind: String
    let names: [String]
    /// [names, d].
    let rows: Tensor<Float>

    func without(_ numbers: [Int]) -> Rows {
      guard !numbers.isEmpty else { return self }
      let dropped = Set(numbers)
      let kept = names.indices.filter { !dropped.contains($0) }
      let rest = Tensor<Float>(Shape(kept.count, rows.columns))
      for (place, row) in kept.enumerated() { copy(rows.rows(row..<row + 1), into: rest.rows(place..<place + 1)) }
      return Rows(kind: kind, names: kept.map { names[$0] }, rows: rest)
    }
  }

  let model: String
  let logitScale: Double
  let dataset: String?
  /// How transparent pixels became opaque.
  let alpha: AlphaHandling
  /// The number of images that could not be read.
  let leftOut: Int
  let parts: [Rows]
  /// Returns whether a file of this name has JSON lines. The name - stands for standard output.
  static func isText(_ path: String) -> Bool { path == "-" || path.hasSuffix(".jsonl") }

  /// Writes the file under another name first, so that a file with the final name is complete.
  func write(to path: String) throws {
    if path == "-" {
      for part in parts { try eachLine(of: part, StandardOutput.write) }
      return
    }
    let partial = path + ".partial"
    try Publish.removeAll(partial)
    if Self.isText(path) {
      let file = try OpenFile.creating(partial)
      for part in parts { try eachLine(of: part) { try file.append($0) } }
    } else {
      try writeHDF5(partial)
    }
    try Publish.sync(file: partial)
    try Publish.rename(partial, to: path)
  }

  private func writeHDF5(_ path: String) throws {
    let file = try HDF5File.create(path)
    try file.attributes.set("model", model)
    try file.attributes.set("logit_scale", logitScale)
    if let dataset { try file.attributes.set("corpus", dataset) }
    try file.attributes.set("alpha", alpha.rawValue)
    if leftOut > 0 { try file.attributes.set("left_out", leftOut) }
    for part in parts {
      try file.createDataset(part.kind, .float32, shape: part.rows.shape.array).write(part.rows)
      let names = part.names.map { Array($0.utf8) }
      let offsets = names.reduce(into: [UInt64(0)]) { $0.append(($0.last ?? 0) + UInt64($1.count)) }
      let bytes = Array(names.joined())
      try file.createDataset(part.kind + "_names/bytes", .uint8, shape: [bytes.count]).write(bytes)
      try file.createDataset(part.kind + "_names/offsets", .uint64, shape: [offsets.count]).write(offsets)
    }
    try file.close()
  }

  /// Writes lines such as `{"kind": "image", "name": "fox.jpg", "embedding": [0.5, …]}`; numbers read back exactly.
  private func eachLine(of part: Rows, _ write: ([UInt8]) throws -> Void) throws {
    var lines: [UInt8] = []
    for (row, name) in part.names.enumerated() {
      let start = row * part.rows.columns
      let numbers = (0..<part.rows.columns).map { "\(part.rows[start + $0])" }.joined(separator: ", ")
      lines += "{\"kind\": \"\(part.kind)\", \"name\": \(StrictJSON.quote(name)), \"embedding\": [\(numbers)]}\n".utf8
      guard lines.count > 1 << 20 || row == part.names.count - 1 else { continue }
      try write(lines)
      lines.removeAll(keepingCapacity: true)
    }
  }
}
