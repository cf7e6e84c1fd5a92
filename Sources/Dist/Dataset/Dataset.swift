internal import Foundation

/// A dataset that is open for reading by any number of threads. Captions, keys and labels are in memory.
public final class Dataset: Sendable {
  /// The checks that opening a dataset makes: of every shard's size and checksum, by `sizes` without its images.
  public enum Check: Sendable { case sizes, checksums }

  public let index: DatasetIndex
  /// The folder that holds the index and the shards.
  public let folder: String
  private let shards: [Shard]
  /// The numbers of each shard's samples and captions.
  private let samples: [Range<Int>]
  private let captions: [Range<Int>]
  private let files = OpenFileCache()

  /// Opens the dataset at `path` or in this folder. Throws a `DatasetError` for the first missing or altered shard. If
  /// there are `ranks`, all must call it, and a `RankDifference` is thrown if they see different datasets.
  public static func open(_ path: String, check: Check = .sizes, over ranks: Communicator? = nil) throws -> Dataset {
    let (index, folder, file) = try locate(path)
    func shard(_ entry: DatasetIndex.Shard) throws -> Shard {
      let path = folder + "/" + entry.file
      try checkFile(path, entry, checksum: check == .checksums)
      return try Shard(path: path, entry: entry, dataset: index.name, labeled: index.labeled)
    }
    guard let ranks, ranks.size > 1 else {
      return Dataset(index: index, folder: folder, shards: try index.shards.map(shard))
    }
    try ranks.requireSame("dataset \(index.name)", index.identity, isShown: true)
    return Dataset(
      index: index, folder: folder,
      shards: try shards(of: index, in: folder, sharing: ranks.sharing(file), over: ranks, open: shard))
  }

  /// Opens the shards, each on one of the ranks that have the same files, `viewers`, which sends what it has read to
  /// the others. All ranks throw the error of the first shard that one of them cannot open.
  private static func shards(
    of index: DatasetIndex, in folder: String, sharing viewers: Communicator, over ranks: Communicator,
    open: (DatasetIndex.Shard) throws -> Shard
  ) throws -> [Shard] {
    var shards: [Shard] = []
    // Groups of ranks may differ in size, and all ranks take part in each round.
    for _ in 0..<(try ranks.allReduce((index.shards.count + viewers.size - 1) / viewers.size, .maximum)) {
      let entries = index.shards.dropFirst(shards.count).prefix(viewers.size)
      let own = try ranks.together { () throws -> [UInt8] in
        guard viewers.rank < entries.count else { return [] }
        do { return try open(entries[entries.startIndex + viewers.rank]).packed } catch let error as DatasetError {
          guard viewers.size < ranks.size else { throw error }
          throw DatasetError("on \(ranks.hostname), \(error.place)", error.reason, status: error.status)
        }
      }
      for (entry, packed) in zip(entries, try viewers.allGather(own)) {
        shards.append(Shard(packed: packed, path: "\(folder)/\(entry.file)", entry: entry, labeled: index.labeled))
      }
    }
    return shards
  }

  private init(index: DatasetIndex, folder: String, shards: [Shard]) {
    (self.index, self.folder, self.shards) = (index, folder, shards)
    samples = index.shards.map(\.samples).endToEnd
    captions = index.shards.map(\.captions).endToEnd
  }

  /// The shards as files for `Staging`.
  package var source: Staging.Source {
    Staging.Source(folder, index.shards.map { (name: $0.file, bytes: $0.fileBytes, sha256: $0.sha256) })
  }

  /// Returns the same dataset, which reads images from copies of its shards in another folder.
  package func reading(from folder: String) -> Dataset {
    Dataset(index: index, folder: folder, shards: shards.map { $0.moved(to: "\(folder)/\($0.entry.file)") })
  }

  public var name: String { index.name }
  public var count: Int { index.totals.samples }

  /// The SHA-256 of the dataset's name and its shards' SHA-256, in hexadecimal digits.
  public var fingerprint: String {
    SHA256.hash(([index.name] + index.shards.map(\.sha256)).joined(separator: "\0").utf8).hexadecimal
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

  /// Returns the file that holds a sample's encoded image, and the range of its bytes there.
  package func imagePlace(_ sample: Int) -> (path: String, bytes: Range<Int>) {
    at(sample) { ($0.path, $0.imageExtent($1)) }
  }

  /// Returns the size of a sample's encoded image in bytes.
  public func imageSize(_ sample: Int) -> Int { at(sample) { $0.imageExtent($1).count } }
  /// Returns all captions of a sample.
  public func captions(_ sample: Int) -> [String] { at(sample) { $0.captions($1) } }
  /// Returns the number of a sample's captions.
  public func captionCount(_ sample: Int) -> Int { at(sample) { $0.captionCount($1) } }

  /// Returns the caption number `choice` of a sample.
  public func caption(_ sample: Int, choice: Int) -> String {
    precondition(choice >= 0 && choice < captionCount(sample), "caption \(choice) of \(captionCount(sample))")
    return at(sample) { $0.caption($1, choice: choice) }
  }

  /// Returns the number of a sample's first caption in the dataset, or the count of all captions for sample `count`.
  public func firstCaption(_ sample: Int) -> Int {
    if sample == count { return captions.last?.upperBound ?? 0 }
    let (number, row) = place(sample)
    return captions[number].lowerBound + shards[number].firstCaption(row)
  }

  /// Returns the sample that has the caption with this number in the dataset.
  func sample(ofCaption number: Int) -> Int { (0..<count).last(holding: { firstCaption($0) <= number }) }

  /// Returns the caption with this number in the dataset.
  public func caption(_ number: Int) -> String {
    let sample = sample(ofCaption: number)
    return caption(sample, choice: number - firstCaption(sample))
  }

  /// Returns the key of a sample, which is unique in the dataset.
  public func key(_ sample: Int) -> String { at(sample) { $0.key($1) } }
  /// Returns the number of a sample's class, or nil if it has none.
  public func label(_ sample: Int) -> Int? { at(sample) { $0.label($1) } }

  /// Returns the key of a sample for random numbers, which does not depend on its position or on the shards.
  public func sampleID(_ sample: Int) -> UInt64 {
    at(sample) { Self.sampleID(dataset: [UInt8](name.utf8), key: $0.keyBytes($1)) }
  }

  /// Returns the first 8 bytes, big-endian, of the SHA-256 of the dataset's name, a zero byte and the key.
  public static func sampleID(dataset: String, key: String) -> UInt64 {
    sampleID(dataset: [UInt8](dataset.utf8), key: [UInt8](key.utf8)[...])
  }

  private static func sampleID(dataset: [UInt8], key: ArraySlice<UInt8>) -> UInt64 {
    SHA256.hash(dataset + [0] + key).bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }

  private func at<R>(_ sample: Int, _ body: (Shard, Int) -> R) -> R {
    let (number, row) = place(sample)
    return body(shards[number], row)
  }

  private func place(_ sample: Int) -> (shard: Int, row: Int) {
    precondition(sample >= 0 && sample < count, "sample \(sample) of a dataset of \(count)")
    let shard = shards.indices.last(holding: { samples[$0].lowerBound <= sample })
    return (shard, sample - samples[shard].lowerBound)
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
    (self.image, self.captions, self.key, self.label) = (image, captions, key, label)
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
    (self.place, self.reason, self.status) = (place, reason, status)
  }

  public var description: String { "\(place): \(reason)" }
}
