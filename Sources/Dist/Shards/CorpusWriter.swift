internal import Foundation

/// Writes a corpus, one shard at a time: memory holds one shard.
///
/// Every shard is written under another name, forced to the disk, read back and compared, and renamed; the index
/// comes last. A folder without an index is an import that did not end.
public struct CorpusWriter: ~Copyable {
  /// When a shard is full: whichever is met first.
  public struct Limits: Sendable {
    public var samples: Int
    public var bytes: Int

    public init(samples: Int = 16_384, bytes: Int = 256 << 20) {
      precondition(samples > 0 && bytes > 0)
      self.samples = samples
      self.bytes = bytes
    }
  }

  public let name: String
  public let folder: String
  private let labels: [String]
  private let labeled: Bool
  private let limits: Limits
  private var builder: ShardBuilder
  private var shards: [CorpusIndex.Shard]
  private var identities: Set<UInt64>

  /// Begins a corpus in `folder`, which is made where it is missing and must not hold a corpus.
  ///
  /// `labeled` says whether samples have labels, and `labels` names the classes where they have names.
  public init(
    name: String, folder: String, labeled: Bool = false, labels: [String] = [], limits: Limits = Limits()
  ) throws {
    guard !name.isEmpty, !name.utf8.contains(0) else { throw CorpusError(folder, "a corpus needs a name") }
    guard labeled || labels.isEmpty else { throw CorpusError(name, "has names of labels but no labels") }
    do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) } catch {
      throw FileError(action: "make the folder", path: folder, reason: error.localizedDescription)
    }
    guard !FileManager.default.fileExists(atPath: folder + "/" + CorpusIndex.fileName) else {
      throw CorpusError(folder, "already holds a corpus")
    }
    self.name = name
    self.folder = folder
    self.labeled = labeled
    self.labels = labels
    self.limits = limits
    builder = ShardBuilder()
    shards = []
    identities = []
  }

  /// How many samples were appended.
  public var count: Int { identities.count }

  /// Adds a sample. Refused: an empty key or picture, a zero byte in key or caption, a key for the second time, a
  /// label outside the named ones or beyond 31 bits.
  public mutating func append(_ sample: CorpusSample) throws {
    guard !sample.key.isEmpty, !sample.key.utf8.contains(0) else {
      throw CorpusError(name, "sample \(count): its key is empty or holds a zero byte")
    }
    func refuse(_ reason: String) -> CorpusError { CorpusError(name, "sample \"\(sample.key)\": \(reason)") }
    guard !sample.image.isEmpty else { throw refuse("its picture has no bytes") }
    guard !sample.captions.contains(where: { $0.utf8.contains(0) }) else { throw refuse("a caption holds a zero byte") }
    guard sample.label == nil || labeled else { throw refuse("has a label, in a corpus without labels") }
    let label = Int32(exactly: sample.label ?? -1)
    guard let label, label >= -1, labels.isEmpty || label < labels.count else {
      throw refuse("its label \(sample.label ?? -1) is not one of \(labels.isEmpty ? Int(Int32.max) : labels.count)")
    }
    guard identities.insert(Corpus.sampleID(corpus: name, key: sample.key)).inserted else {
      throw refuse("the key was used before")
    }
    builder.append(sample, label: label)
    if builder.samples >= limits.samples || builder.size >= limits.bytes { try writeShard() }
  }

  /// Writes what remains and the index. The corpus exists once this has returned.
  public consuming func finish() throws -> CorpusIndex {
    if builder.samples > 0 { try writeShard() }
    let index = try CorpusIndex(name: name, labels: labels, labeled: labeled, shards: shards)
    try index.write(to: folder + "/" + CorpusIndex.fileName)
    return index
  }

  private mutating func writeShard() throws {
    let digits = String(shards.count)
    let name = "shard-" + String(repeating: "0", count: max(5 - digits.count, 0)) + digits + ".h5"
    let path = folder + "/" + name
    let draft = path + ".partial"
    do {
      // Left by an import that was killed.
      try? FileManager.default.removeItem(atPath: draft)
      let written = try builder.write(to: draft, corpus: self.name, labeled: labeled)
      try Publish.sync(file: draft)
      let file = try OpenFile.reading(draft)
      let extent = written.imageOffset..<written.imageOffset + builder.imageBytes
      let entry = CorpusIndex.Shard(
        file: name, samples: builder.samples, captions: builder.captionCount, imageOffset: extent.lowerBound,
        imageBytes: extent.count, fileBytes: try file.size(), sha256: try file.sha256(),
        restSHA256: try file.sha256(without: extent))
      // Read back as a reader would.
      let shard = try Shard(path: draft, entry: entry, corpus: self.name, labeled: labeled)
      guard try shard.digest == written.digest && shard.contentDigest() == written.digest else {
        throw CorpusError(draft, "what was read back is not what was written; the disk may be failing")
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
