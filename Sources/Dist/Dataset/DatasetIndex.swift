internal import Foundation
internal import Tensor

/// The index of a dataset: the file `corpus.json` beside its shards, which is written last.
public struct DatasetIndex: Codable, Hashable, Sendable {
  /// The facts about a shard that can be checked without opening it as an HDF5 file.
  public struct Shard: Codable, Hashable, Sendable {
    /// The name of the file in the index's folder.
    public var file: String
    public var samples: Int
    public var captions: Int
    /// The offset and the size of the encoded images, and the size of the file, in bytes.
    public var imageOffset: Int
    public var imageBytes: Int
    public var fileBytes: Int
    /// The SHA-256 of the file, and of the file without its images, which covers everything that a reader trusts.
    public var sha256: String
    public var restSHA256: String
    var imageExtent: Range<Int> { imageOffset..<imageOffset + imageBytes }

    enum CodingKeys: String, CodingKey {
      case file, samples, captions
      case imageOffset = "image_offset"
      case imageBytes = "image_bytes"
      case fileBytes = "file_bytes"
      case sha256
      case restSHA256 = "sha256_without_images"
    }
  }

  /// The sums over all shards; sizes are in bytes.
  public struct Totals: Codable, Hashable, Sendable {
    public var samples: Int
    public var captions: Int
    public var imageBytes: Int
    public var fileBytes: Int

    enum CodingKeys: String, CodingKey {
      case samples, captions
      case imageBytes = "image_bytes"
      case fileBytes = "file_bytes"
    }

    /// Returns the sums over `shards`, or nil if they exceed 64 bits.
    init?(_ shards: [Shard]) {
      guard let samples = shards.map(\.samples).checkedSum, let captions = shards.map(\.captions).checkedSum,
        let imageBytes = shards.map(\.imageBytes).checkedSum, let fileBytes = shards.map(\.fileBytes).checkedSum
      else { return nil }
      (self.samples, self.captions, self.imageBytes, self.fileBytes) = (samples, captions, imageBytes, fileBytes)
    }
  }

  /// The name of the format, which stays that of the first release.
  public static let schema = "kinship/corpus/1"
  /// The name of the index in a dataset's folder.
  public static let fileName = "corpus.json"
  public var schema: String
  /// The dataset's name, which is part of every sample's identity.
  public var name: String
  /// The names of the classes by label; empty if the classes have no names or the samples no labels.
  public var labels: [String]
  /// True if the shards have labels.
  public var labeled: Bool
  public var shards: [Shard]
  public var totals: Totals

  init(name: String, labels: [String], labeled: Bool, shards: [Shard]) throws(DatasetError) {
    guard let totals = Totals(shards) else { throw DatasetError(name, "its counts exceed 64 bits") }
    schema = Self.schema
    (self.name, self.labels, self.labeled, self.shards, self.totals) = (name, labels, labeled, shards, totals)
  }

  /// Reads an index and checks its schema, that file names are plain, and that counts are possible and add up.
  public static func read(_ path: String) throws -> DatasetIndex {
    let bytes = try OpenFile.contents(path)
    let index: DatasetIndex
    do { index = try JSONDecoder().decode(DatasetIndex.self, from: Data(bytes)) } catch {
      throw DatasetError(path, "is not the index of a dataset: \(error.explanation)")
    }
    try index.check(path)
    return index
  }

  private func check(_ path: String) throws(DatasetError) {
    func require(_ fact: Bool, _ problem: @autoclosure () -> String) throws(DatasetError) {
      guard fact else { throw DatasetError(path, problem()) }
    }
    try require(schema == Self.schema, "its schema is \(schema); this program reads \(Self.schema)")
    try require(!name.isEmpty, "the dataset has no name")
    for shard in shards {
      let name = shard.file
      let isPlain = !["", ".", ".."].contains(name) && !name.contains("/") && !name.utf8.contains(0)
      try require(isPlain, "the shard name \"\(name)\" is not a plain file name")
      let least = min(shard.samples, shard.captions, shard.imageBytes, shard.fileBytes)
      try require(least >= 0, "shard \(name) has a negative count")
      // Each sample and each caption has an offset of 8 bytes: counts of a file that exists are far from overflow.
      try require(
        max(shard.samples, shard.captions) <= shard.fileBytes / 8,
        "shard \(name) claims \(shard.samples) samples and \(shard.captions) captions in \(shard.fileBytes) bytes")
      let isInside = shard.imageOffset >= 0 && shard.imageOffset <= shard.fileBytes - shard.imageBytes
      try require(isInside, "shard \(name) claims images outside of the file")
    }
    try require(Set(shards.map(\.file)).count == shards.count, "a shard is named twice")
    try require(Totals(shards) == totals, "its totals are not the sums over its shards")
  }

  /// The count of samples and the SHA-256 of all that the index says, which covers all that its shards hold.
  var identity: String {
    get throws {
      let sum = SHA256.hash(try JSONEncoder.readable.encode(self)).hexadecimal
      return "\(totals.samples) samples and an index with the SHA-256 \(sum)"
    }
  }

  /// Publishes the index as `path`.
  func write(to path: String) throws { try Publish.write(json: self, to: path) }
}
