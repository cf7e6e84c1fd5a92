internal import Foundation

/// The index of a dataset: the file `corpus.json` beside its shards, which is written last.
public struct DatasetIndex: Codable, Hashable, Sendable {
  /// The facts about a shard that can be checked without opening it as an HDF5 file.
  public struct Shard: Codable, Hashable, Sendable {
    /// The name of the file in the index's folder.
    public var file: String
    public var samples: Int
    public var captions: Int
    /// The offset of the encoded images in the file.
    public var imageOffset: Int
    /// The size of the encoded images in bytes.
    public var imageBytes: Int
    /// The size of the file in bytes.
    public var fileBytes: Int
    /// The SHA-256 of the file, in hexadecimal digits.
    public var sha256: String
    /// The SHA-256 of the file without its images. It covers everything that a reader trusts and is quick to compute.
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

    /// Returns the sums over `shards`, or nil if they overflow.
    init?(_ shards: [Shard]) {
      func sum(_ count: (Shard) -> Int) -> Int? {
        var total = 0
        for shard in shards {
          let (next, overflow) = total.addingReportingOverflow(count(shard))
          guard !overflow else { return nil }
          total = next
        }
        return total
      }
      guard let samples = sum(\.samples), let captions = sum(\.captions), let imageBytes = sum(\.imageBytes),
        let fileBytes = sum(\.fileBytes)
      else { return nil }
      self.samples = samples
      self.captions = captions
      self.imageBytes = imageBytes
      self.fileBytes = fileBytes
    }
  }

  public static let schema = "kinship/corpus/1"
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
    self.name = name
    self.labels = labels
    self.labeled = labeled
    self.shards = shards
    self.totals = totals
  }

  /// Reads an index and checks its schema, that its file names are plain, and that its counts are not negative and add
  /// up.
  public static func read(_ path: String) throws -> DatasetIndex {
    let bytes = try OpenFile.contents(path)
    let index: DatasetIndex
    do { index = try JSONDecoder().decode(DatasetIndex.self, from: Data(bytes)) } catch {
      throw DatasetError(path, "is not the index of a dataset: \(Self.reason(error))")
    }
    try index.check(path)
    return index
  }

  private func check(_ path: String) throws(DatasetError) {
    guard schema == Self.schema else {
      throw DatasetError(path, "its schema is \(schema); this program reads \(Self.schema)")
    }
    guard !name.isEmpty else { throw DatasetError(path, "the dataset has no name") }
    for shard in shards {
      let name = shard.file
      guard !name.isEmpty, !name.contains("/"), !name.utf8.contains(0), name != ".", name != ".." else {
        throw DatasetError(path, "the shard name \"\(name)\" is not a plain file name")
      }
      guard min(shard.samples, shard.captions, shard.imageBytes, shard.fileBytes) >= 0 else {
        throw DatasetError(path, "shard \(name) has a negative count")
      }
      guard shard.imageOffset >= 0, shard.imageOffset <= shard.fileBytes - shard.imageBytes else {
        throw DatasetError(path, "shard \(name) claims images outside of the file")
      }
    }
    guard Set(shards.map(\.file)).count == shards.count else { throw DatasetError(path, "a shard is named twice") }
    guard Totals(shards) == totals else { throw DatasetError(path, "its totals are not the sums over its shards") }
  }

  private static func reason(_ error: any Error) -> String {
    switch error {
    case DecodingError.keyNotFound(let key, _): "the key \"\(key.stringValue)\" is missing"
    case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
      "\(context.codingPath.map(\.stringValue).joined(separator: ".")): \(context.debugDescription)"
    case DecodingError.dataCorrupted(let context): context.debugDescription
    default: "\(error)"
    }
  }

  /// Publishes the index as `path`.
  func write(to path: String) throws {
    try Publish.write(json: self, to: path)
  }
}
