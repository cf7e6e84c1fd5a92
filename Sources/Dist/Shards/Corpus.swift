internal import Foundation

/// A corpus opened to read: samples 0 ..< count over all its shards, in the order of import.
///
/// Captions, keys and labels are in memory (about 30 bytes a sample and their own bytes); pictures are read at need.
/// All methods may be called from any number of threads.
public final class Corpus: Sendable {
  /// How much is checked when a corpus is opened.
  public enum Check: Sendable {
    /// Every shard exists, has its size, and all but its pictures' bytes is unaltered.
    case sizes
    /// The pictures too: reads every byte.
    case checksums
  }

  public let index: CorpusIndex
  /// The folder that holds the index and the shards.
  public let folder: String
  private let shards: [Shard]
  /// The number of the first sample of each shard, and the count of all.
  private let first: [Int]
  /// The number of the first caption of each shard.
  private let firstCaption: [Int]
  private let files = ShardFiles()

  /// Opens the corpus whose index is `path`, or lies in the folder `path`. The first shard that is missing, truncated
  /// or altered is named in a `CorpusError`.
  public static func open(_ path: String, check: Check = .sizes) throws -> Corpus {
    let (index, folder) = try locate(path)
    let shards = try index.shards.map { entry in
      let path = folder + "/" + entry.file
      try checkFile(path, entry, checksum: check == .checksums)
      return try Shard(path: path, entry: entry, corpus: index.name, labeled: index.labeled)
    }
    return Corpus(index: index, folder: folder, shards: shards)
  }

  private init(index: CorpusIndex, folder: String, shards: [Shard]) {
    self.index = index
    self.folder = folder
    self.shards = shards
    first = index.shards.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1.samples) }
    firstCaption = index.shards.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1.captions) }
  }

  public var name: String { index.name }
  public var count: Int { index.totals.samples }

  /// SHA-256 over the corpus's name and its shards' own, in hexadecimal digits: the same contents have the same.
  public var fingerprint: String {
    var hasher = SHA256()
    hasher.update(index.name.utf8)
    for shard in index.shards { hasher.update("\0\(shard.sha256)".utf8) }
    return hasher.finalize().hexadecimal
  }

  /// The encoded picture of a sample.
  public func image(_ sample: Int) throws -> [UInt8] {
    var bytes: [UInt8] = []
    try readImage(sample, into: &bytes)
    return bytes
  }

  /// Reads the encoded picture of a sample into `bytes`, whose memory is kept.
  public func readImage(_ sample: Int, into bytes: inout [UInt8]) throws {
    let (number, row) = place(sample)
    let shard = shards[number]
    let extent = shard.imageExtent(row)
    let file = try files.file(number, path: shard.path)
    do throws(FileError) { try file.read(extent.count, at: extent.lowerBound, into: &bytes) } catch {
      guard try file.size() < extent.upperBound else { throw error }
      throw CorpusError(shard.path, "ends within the picture of \"\(shard.key(row))\"; it was cut after it was opened")
    }
  }

  /// Bytes of the encoded picture of a sample.
  public func imageSize(_ sample: Int) -> Int { at(sample) { $0.imageExtent($1).count } }

  public func captions(_ sample: Int) -> [String] { at(sample) { $0.captions($1) } }
  public func captionCount(_ sample: Int) -> Int { at(sample) { $0.captionCount($1) } }

  /// One of a sample's captions, without making the others.
  public func caption(_ sample: Int, _ choice: Int) -> String {
    precondition(choice >= 0 && choice < captionCount(sample), "caption \(choice) of \(captionCount(sample))")
    return at(sample) { $0.caption($1, choice) }
  }

  /// The number of a sample's first caption among all of the corpus; for sample `count` the number of all captions.
  public func firstCaption(_ sample: Int) -> Int {
    if sample == count { return firstCaption[shards.count] }
    let (number, row) = place(sample)
    return firstCaption[number] + shards[number].firstCaption(row)
  }

  /// The caption of this number among all of the corpus.
  public func caption(_ number: Int) -> String {
    var (low, high) = (0, count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if firstCaption(middle) <= number { low = middle } else { high = middle }
    }
    return caption(low, number - firstCaption(low))
  }

  public func key(_ sample: Int) -> String { at(sample) { $0.key($1) } }

  /// The number of a sample's class, where it has one.
  public func label(_ sample: Int) -> Int? { at(sample) { $0.label($1) } }

  /// What a sample is called by everything random: independent of its position and of the shards.
  public func sampleID(_ sample: Int) -> UInt64 {
    at(sample) { Self.sampleID(corpus: [UInt8](name.utf8), key: $0.keyBytes($1)) }
  }

  /// The first 8 bytes, big-endian, of SHA-256 over the corpus's name, a zero byte and the key, all in UTF-8.
  public static func sampleID(corpus: String, key: String) -> UInt64 {
    sampleID(corpus: [UInt8](corpus.utf8), key: [UInt8](key.utf8)[...])
  }

  private static func sampleID(corpus: [UInt8], key: ArraySlice<UInt8>) -> UInt64 {
    var hasher = SHA256()
    hasher.update(corpus)
    hasher.update([0])
    hasher.update(key)
    return hasher.finalize().bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }

  private func at<R>(_ sample: Int, _ body: (Shard, Int) -> R) -> R {
    let (number, row) = place(sample)
    return body(shards[number], row)
  }

  /// Which shard a sample is in, and where in it.
  private func place(_ sample: Int) -> (shard: Int, row: Int) {
    precondition(sample >= 0 && sample < count, "sample \(sample) of a corpus of \(count)")
    var low = 0
    var high = shards.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if first[middle] <= sample { low = middle } else { high = middle }
    }
    return (low, sample - first[low])
  }
}
