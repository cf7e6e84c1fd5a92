import Dist
import Foundation
import Tensor

/// Makes the cache of one dataset from files of embeddings that another program has computed.
struct EmbeddingImport {
  /// The files, and whether their rows of keys that the dataset lacks are left out.
  struct Source {
    let files: [String]
    let allowsExtra: Bool
    /// The options on which all ranks must agree.
    var text: String { files.joined(separator: "\0") + (allowsExtra ? "\0extra" : "") }
  }

  private static let height = 1024
  private let dataset: Dataset
  private let embeddings: EmbeddingSet
  private let description: CacheDescription
  private let ranks: Communicator
  private let log: (String) -> Void

  /// Reads the files' keys and checks that the embeddings are complete. Every rank must call it.
  init(_ source: Source, of dataset: Dataset, over ranks: Communicator, log: @escaping (String) -> Void) throws {
    let files = try source.files.map { try ForeignEmbeddings($0) }
    let sums = try source.files.map { path in
      let sum = try ranks.sha256(of: path) { try SHA256.ofFile(path) }
      try ranks.requireSameFile("file of embeddings", path, sha256: sum)
      return sum
    }
    let embeddings = try EmbeddingSet(files, of: dataset)
    let extra = embeddings.extra
    guard extra.count == 0 || source.allowsExtra else {
      let keys = extra.keys.map { "\"\($0)\"" }.joined(separator: ", ")
      throw UserError(
        source.files.joined(separator: ", "),
        "\(Figures.count(extra.count, "row")) of a key that the dataset \(dataset.name) lacks, first \(keys); say "
          + "--allow-extra to leave such rows out")
    }
    var contents = embeddings.contents
    let boxes = try ranks.broadcast { try embeddings.boxesSHA256() ?? "" }
    contents.boxes = boxes.isEmpty ? nil : boxes
    description = CacheDescription(
      imported: contents, from: source.files, sha256: sums, dataset: CacheDescription.Source(dataset),
      views: embeddings.views)
    (self.dataset, self.embeddings, self.ranks, self.log) = (dataset, embeddings, ranks, log)
    if extra.count > 0 { log("left out \(Figures.count(extra.count, "row")) of a key that the dataset lacks") }
  }

  /// Writes the parts that the folder lacks, dealt to the ranks, and the manifest. Every rank must call it.
  func write(to folder: String, _ cache: CacheConfig) throws {
    let scale = embeddings.logitScale.map { Float(Foundation.log($0)) } ?? 0
    // What is computed here, one division for each number, gives the same bits on any processor.
    let manifest = CacheManifest(
      description, logitScale: scale, type: cache.type, partSamples: cache.partSamples(of: dataset.count),
      version: Release.version, kernel: "none", arithmetic: nil)
    log("kinship \(Release.version)  embeddings of \(description.teacher.path): \(contentsText)")
    let writer = try CacheWriter(folder, manifest, communicator: ranks)
    let found = try writer.soundParts()
    let missing = (0..<manifest.partCount).filter { found[$0] == nil }
    let parts = "\(Figures.count(manifest.partCount, "part")), \(found.count) of them there already"
    log("\(dataset.name)  \(Figures.count(dataset.count, "image")), to \(folder): \(parts)")
    if ranks.rank == 0 {
      let bytes = missing.map { part in
        writer.bytes(ofPart: part, captions: dataset.captions(of: manifest.samples(ofPart: part)).count)
      }
      try writer.requireSpace(bytes.checkedSum ?? .max)
    }
    var written: [CacheManifest.Part] = []
    var lengths = EmbeddingSet.Lengths()
    // The ranks begin every part together, and so all stop at the same one.
    for first in stride(from: 0, to: missing.count, by: ranks.size) {
      try StopRequest.check(over: ranks)
      guard first + ranks.rank < missing.count else { continue }
      written.append(try write(missing[first + ranks.rank], with: writer, &lengths))
    }
    _ = try writer.finish(written, beside: found)
    if let text = try text(of: lengths) { log(text) }
    log("\(dataset.name)  complete")
  }

  private func write(
    _ index: Int, with writer: CacheWriter, _ lengths: inout EmbeddingSet.Lengths
  ) throws -> CacheManifest.Part {
    let samples = writer.manifest.samples(ofPart: index)
    let captions = dataset.captions(of: samples)
    let part = try writer.part(index, captions: captions)
    do {
      for block in DatasetPrecomputation.blocks(samples, of: Self.height) {
        if description.imageWidth > 0 { try part.write(images: embeddings.images(block, &lengths), of: block) }
        if description.hasBoxes { try part.write(boxes: embeddings.boxes(block), of: block) }
      }
      for block in DatasetPrecomputation.blocks(captions, of: Self.height) where description.textWidth > 0 {
        try part.write(texts: embeddings.texts(block, &lengths), of: block)
      }
      return try part.finish()
    } catch {
      part.abandon()
      throw error
    }
  }

  private var contentsText: String {
    let (views, images, texts) = (description.views, description.imageWidth, description.textWidth)
    let crops = embeddings.hasBoxes ? "\(Figures.count(views, "crop")) each, with boxes" : "central crops"
    return [
      images > 0 ? "images \(images) wide (\(crops))" : "no images",
      texts > 0 ? "captions \(texts) wide" : "no captions",
      embeddings.logitScale.map { "logit_scale \(Figures.significant($0, 4))" } ?? "no logit_scale",
    ].joined(separator: ", ")
  }

  /// Says how many of the embeddings had another length than 1; nil if none had. Every rank must call it.
  private func text(of lengths: EmbeddingSet.Lengths) throws -> String? {
    var counts = [lengths.count, lengths.others]
    try ranks.allReduce(&counts)
    var limits = [-lengths.least, lengths.largest]
    try ranks.allReduce(&limits, .maximum)
    guard counts[1] > 0 else { return nil }
    let (least, largest) = (Figures.significant(-limits[0], 3), Figures.significant(limits[1], 3))
    return "\(counts[1]) of \(counts[0]) embeddings were not of length 1, but from \(least) to \(largest): each was "
      + "divided by its length"
  }
}
