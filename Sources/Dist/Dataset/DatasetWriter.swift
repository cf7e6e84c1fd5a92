internal import Foundation

/// Writes a dataset, and holds one shard in memory. The index comes last: a folder without one is unfinished. An
/// earlier dataset in the folder stays whole until the new index takes the place of its own, because no shard has the
/// name of an earlier one; so whoever still reads the earlier one misses its shards, and does not take others for them.
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
  /// The names of an earlier dataset's shards, and the number in the name of the next one.
  private let taken: Set<String>
  private var number = 0

  /// Begins a dataset in `folder`, which must not hold one unless that is to be replaced. `labels` are the names of the
  /// classes, if they have any.
  public init(
    name: String, folder: String, labeled: Bool = false, labels: [String] = [], limits: Limits = Limits(),
    replacing: Bool = false
  ) throws {
    guard !name.isEmpty, !name.utf8.contains(0) else { throw DatasetError(folder, "a dataset needs a name") }
    guard labeled || labels.isEmpty else { throw DatasetError(name, "has class names, but its samples have no labels") }
    try Publish.makeFolder(folder)
    // Otherwise the first shard would find this out, when thousands of images have been read.
    if unsafe access(folder, W_OK | X_OK) != 0 { throw FileError.system("write to the folder", folder) }
    guard replacing || !FileManager.default.fileExists(atPath: folder + "/" + DatasetIndex.fileName) else {
      throw DatasetError(folder, "already holds a dataset")
    }
    if replacing { try Self.removeLeftovers(in: folder) }
    let taken = try replacing ? Set(Self.files(in: folder)) : []
    (self.name, self.folder, self.labeled, self.labels, self.limits) = (name, folder, labeled, labels, limits)
    self.taken = taken
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

  /// Writes the last shard and the index, and removes an earlier dataset's shards. The dataset is complete when this
  /// returns.
  public consuming func finish() throws -> DatasetIndex {
    if builder.samples > 0 { try writeShard() }
    for shard in shards where (try? Dataset.checkFile(folder + "/" + shard.file, shard, checksum: false)) == nil {
      throw DatasetError(
        folder, "\(shard.file) was changed or removed after it was written; only one import may write to a folder")
    }
    let index = try DatasetIndex(name: name, labels: labels, labeled: labeled, shards: shards)
    try index.write(to: folder + "/" + DatasetIndex.fileName)
    if !taken.isEmpty { try Self.removeLeftovers(in: folder) }
    return index
  }

  /// Removes what killed or failed writers have left in `folder`: unfinished files, and shards that its index does not
  /// name. Does nothing beside an index that cannot be read, whose shards may be any.
  public static func removeLeftovers(in folder: String) throws {
    let path = folder + "/" + DatasetIndex.fileName
    var named: Set<String> = []
    if FileManager.default.fileExists(atPath: path) {
      guard let index = try? DatasetIndex.read(path) else { return }
      named = Set(index.shards.map(\.file))
    }
    for name in try files(in: folder) where !named.contains(name) { try Publish.removeAll(folder + "/" + name) }
  }

  /// Returns the names of all files in `folder` that a writer makes, but for the index.
  private static func files(in folder: String) throws -> [String] {
    try Publish.names(in: folder).filter {
      $0.wholeMatch(of: /shard-[0-9]{5,}\.h5(\.partial)?|corpus\.json\..+\.partial/) != nil
    }
  }

  private static func file(_ number: Int) -> String { "shard-\(number.digits(5)).h5" }

  private mutating func writeShard() throws {
    while taken.contains(Self.file(number)) { number += 1 }
    let name = Self.file(number)
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
      number += 1
    } catch {
      try? FileManager.default.removeItem(atPath: draft)
      throw error
    }
    builder = ShardBuilder()
  }
}
