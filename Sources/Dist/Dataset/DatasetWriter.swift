internal import Foundation

/// Writes a dataset, and holds one shard in memory. The index comes last: a folder without one is unfinished.
public struct DatasetWriter: ~Copyable {
  /// The limits at which a shard is full, whichever is reached first.
  public struct Limits: Sendable {
    public var samples: Int
    public var bytes: Int

    public init(samples: Int = 16_384, bytes: Int = 256 << 20) {
      precondition(samples > 0 && bytes > 0)
      (self.samples, self.bytes) = (samples, bytes)
    }
  }

  public let name: String
  public let folder: String
  private let labels: [String]
  private let labeled: Bool
  private let limits: Limits
  private var builder = ShardBuilder()
  private var shards: [DatasetIndex.Shard] = []
  private var identities: Set<UInt64> = []

  /// Begins a dataset in `folder`, which must not hold one. `labels` are the names of the classes, if they have any.
  public init(
    name: String, folder: String, labeled: Bool = false, labels: [String] = [], limits: Limits = Limits()
  ) throws {
    guard !name.isEmpty, !name.utf8.contains(0) else { throw DatasetError(folder, "a dataset needs a name") }
    guard labeled || labels.isEmpty else { throw DatasetError(name, "has class names, but its samples have no labels") }
    try Publish.makeFolder(folder)
    guard !FileManager.default.fileExists(atPath: folder + "/" + DatasetIndex.fileName) else {
      throw DatasetError(folder, "already holds a dataset")
    }
    (self.name, self.folder, self.labeled, self.labels, self.limits) = (name, folder, labeled, labels, limits)
  }

  /// The number of appended samples.
  public var count: Int { identities.count }

  /// Adds a sample. Throws for an empty or repeated key, an empty image, a zero byte in a text, and a wrong label.
  public mutating func append(_ sample: DatasetSample) throws {
    guard !sample.key.isEmpty, !sample.key.utf8.contains(0) else {
      throw DatasetError(name, "sample \(count): its key is empty or holds a zero byte")
    }
    func refuse(_ reason: String) -> DatasetError { DatasetError(name, "sample \"\(sample.key)\": \(reason)") }
    guard !sample.image.isEmpty else { throw refuse("its image has no bytes") }
    guard !sample.captions.contains(where: { $0.utf8.contains(0) }) else { throw refuse("a caption holds a zero byte") }
    guard sample.label == nil || labeled else { throw refuse("has a label, in a dataset without labels") }
    let label = Int32(exactly: sample.label ?? -1)
    guard let label, label >= -1, labels.isEmpty || label < labels.count else {
      throw refuse("its label \(sample.label ?? -1) is not one of \(labels.isEmpty ? Int(Int32.max) : labels.count)")
    }
    guard identities.insert(Dataset.sampleID(dataset: name, key: sample.key)).inserted else {
      throw refuse("another sample has this key")
    }
    builder.append(sample, label: label)
    if builder.samples >= limits.samples || builder.size >= limits.bytes { try writeShard() }
  }

  /// Writes the last shard and the index. The dataset is complete when this returns.
  public consuming func finish() throws -> DatasetIndex {
    if builder.samples > 0 { try writeShard() }
    let index = try DatasetIndex(name: name, labels: labels, labeled: labeled, shards: shards)
    try index.write(to: folder + "/" + DatasetIndex.fileName)
    return index
  }

  private mutating func writeShard() throws {
    let name = "shard-\(shards.count.digits(5)).h5"
    let path = folder + "/" + name
    let draft = path + ".partial"
    do {
      // A killed import may have left this file behind.
      try? FileManager.default.removeItem(atPath: draft)
      let written = try builder.write(to: draft, dataset: self.name, labeled: labeled)
      try Publish.sync(file: draft)
      let file = try OpenFile.reading(draft)
      let extent = written.imageOffset..<written.imageOffset + builder.imageBytes
      let entry = DatasetIndex.Shard(
        file: name, samples: builder.samples, captions: builder.captionCount, imageOffset: extent.lowerBound,
        imageBytes: extent.count, fileBytes: try file.size(), sha256: try file.sha256(),
        restSHA256: try file.sha256(without: extent))
      // Read back as a reader would.
      let shard = try Shard(path: draft, entry: entry, dataset: self.name, labeled: labeled)
      guard try shard.digest == written.digest && shard.contentDigest() == written.digest else {
        throw DatasetError(draft, "the data read back differ from those written; the disk may be failing")
      }
      try Publish.rename(draft, to: path)
      shards.append(entry)
    } catch {
      try? FileManager.default.removeItem(atPath: draft)
      throw error
    }
    builder = ShardBuilder()
  }
}
