internal import Foundation

/// A dataset that is open for reading: samples 0 ..< count over all its shards, in the order of import.
///
/// Captions, keys and labels are in memory, in their own bytes and about 30 more per sample; images are read on demand.
/// Any number of threads may call all methods.
public final class Dataset: Sendable {
  /// The checks that opening a dataset makes.
  public enum Check: Sendable {
    /// Checks that every shard exists, has the right size, and is unaltered apart from its images.
    case sizes
    /// Checks the images too, which reads every byte.
    case checksums
  }

  public let index: DatasetIndex
  /// The folder that holds the index and the shards.
  public let folder: String
  private let shards: [Shard]
  /// The number of the first sample of each shard, followed by the count of all samples.
  private let first: [Int]
  /// The number of the first caption of each shard, followed by the count of all captions.
  private let firstCaption: [Int]
  private let files = OpenFileCache()

  /// Opens the dataset whose index is `path` or lies in the folder `path`. Throws a `DatasetError` for the first shard
  /// that is missing, truncated or altered.
  public static func open(_ path: String, check: Check = .sizes) throws -> Dataset {
    let (index, folder) = try locate(path)
    let shards = try index.shards.map { entry in
      let path = folder + "/" + entry.file
      try checkFile(path, entry, checksum: check == .checksums)
      return try Shard(path: path, entry: entry, dataset: index.name, labeled: index.labeled)
    }
    return Dataset(index: index, folder: folder, shards: shards)
  }

  private init(index: DatasetIndex, folder: String, shards: [Shard]) {
    self.index = index
    self.folder = folder
    self.shards = shards
    first = index.shards.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1.samples) }
    firstCaption = index.shards.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1.captions) }
  }

  public var name: String { index.name }
  public var count: Int { index.totals.samples }

  /// The SHA-256 of the dataset's name and its shards' SHA-256, in hexadecimal digits. Equal contents have equal
  /// fingerprints.
  public var fingerprint: String {
    var hasher = SHA256()
    hasher.update(index.name.utf8)
    for shard in index.shards { hasher.update("\0\(shard.sha256)".utf8) }
    return hasher.finalize().hexadecimal
  }

  /// Returns the encoded image of a sample.
  public func image(_ sample: Int) throws -> [UInt8] {
    var bytes: [UInt8] = []
    try readImage(sample, into: &bytes)
    return bytes
  }

  /// Replaces `bytes` by the encoded image of a sample, and reuses its memory.
  public func readImage(_ sample: Int, into bytes: inout [UInt8]) throws {
    let (number, row) = place(sample)
    let shard = shards[number]
    let extent = shard.imageExtent(row)
    let file = try files.file(number, path: shard.path)
    do throws(FileError) { try file.read(extent.count, at: extent.lowerBound, into: &bytes) } catch {
      guard try file.size() < extent.upperBound else { throw error }
      throw DatasetError(
        shard.path, "ends within the image of \"\(shard.key(row))\"; it was truncated after it was opened")
    }
  }

  /// Returns the size of a sample's encoded image in bytes.
  public func imageSize(_ sample: Int) -> Int { at(sample) { $0.imageExtent($1).count } }

  public func captions(_ sample: Int) -> [String] { at(sample) { $0.captions($1) } }
  public func captionCount(_ sample: Int) -> Int { at(sample) { $0.captionCount($1) } }

  /// Returns the caption number `choice` of a sample.
  public func caption(_ sample: Int, choice: Int) -> String {
    precondition(choice >= 0 && choice < captionCount(sample), "caption \(choice) of \(captionCount(sample))")
    return at(sample) { $0.caption($1, choice: choice) }
  }

  /// Returns the number of a sample's first caption in the dataset, or the count of all captions for sample `count`.
  public func firstCaption(_ sample: Int) -> Int {
    if sample == count { return firstCaption[shards.count] }
    let (number, row) = place(sample)
    return firstCaption[number] + shards[number].firstCaption(row)
  }

  /// Returns the caption with this number in the dataset.
  public func caption(_ number: Int) -> String {
    let sample = (0..<count).last(holding: { firstCaption($0) <= number })
    return caption(sample, choice: number - firstCaption(sample))
  }

  public func key(_ sample: Int) -> String { at(sample) { $0.key($1) } }

  /// Returns the number of a sample's class, or nil if it has none.
  public func label(_ sample: Int) -> Int? { at(sample) { $0.label($1) } }

  /// Returns the key of a sample for random numbers, which does not depend on its position or on the shards.
  public func sampleID(_ sample: Int) -> UInt64 {
    at(sample) { Self.sampleID(dataset: [UInt8](name.utf8), key: $0.keyBytes($1)) }
  }

  /// Returns the first 8 bytes, as a big-endian number, of the SHA-256 of the dataset's name, a zero byte and the key
  /// in UTF-8.
  public static func sampleID(dataset: String, key: String) -> UInt64 {
    sampleID(dataset: [UInt8](dataset.utf8), key: [UInt8](key.utf8)[...])
  }

  private static func sampleID(dataset: [UInt8], key: ArraySlice<UInt8>) -> UInt64 {
    var hasher = SHA256()
    hasher.update(dataset)
    hasher.update([0])
    hasher.update(key)
    return hasher.finalize().bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }

  private func at<R>(_ sample: Int, _ body: (Shard, Int) -> R) -> R {
    let (number, row) = place(sample)
    return body(shards[number], row)
  }

  /// Returns the shard of a sample, and its number in the shard.
  private func place(_ sample: Int) -> (shard: Int, row: Int) {
    precondition(sample >= 0 && sample < count, "sample \(sample) of a dataset of \(count)")
    let shard = shards.indices.last(holding: { first[$0] <= sample })
    return (shard, sample - first[shard])
  }
}

extension Range<Int> {
  /// Returns the last index for which `holds` is true, by binary search. It must be true up to that index and false
  /// after it; if it is true nowhere, the first index is returned.
  func last(holding holds: (Int) -> Bool) -> Int {
    var (low, high) = (lowerBound, upperBound)
    while high - low > 1 {
      let middle = (low + high) / 2
      if holds(middle) { low = middle } else { high = middle }
    }
    return low
  }
}

/// An image with its captions, key and label.
public struct DatasetSample: Hashable, Sendable {
  /// The encoded image, unchanged.
  public var image: [UInt8]
  public var captions: [String]
  /// The sample's name, unique in its dataset.
  public var key: String
  /// The number of the class, if it is known.
  public var label: Int?

  public init(image: [UInt8], captions: [String], key: String, label: Int? = nil) {
    self.image = image
    self.captions = captions
    self.key = key
    self.label = label
  }
}

/// A problem with a dataset's index, with one of its shards, or with a sample that is being written.
public struct DatasetError: Error, ExitCoded, Hashable, CustomStringConvertible {
  /// The path of the index or shard, or the dataset's name while it is being written.
  public let place: String
  public let reason: String
  /// 65 if the stored contents are wrong, 74 if the system reports an error.
  public let status: ExitStatus

  public init(_ place: String, _ reason: String, status: ExitStatus = .badData) {
    self.place = place
    self.reason = reason
    self.status = status
  }

  public var description: String { "\(place): \(reason)" }
}
