internal import Foundation

/// The index of a corpus: the file `corpus.json` beside its shards, written last.
public struct CorpusIndex: Codable, Hashable, Sendable {
  /// One shard, by what can be checked without opening it.
  public struct Shard: Codable, Hashable, Sendable {
    /// The file's name, in the index's folder.
    public var file: String
    public var samples: Int
    public var captions: Int
    /// Where in the file the encoded pictures begin.
    public var imageOffset: Int
    /// Bytes of the encoded pictures.
    public var imageBytes: Int
    /// Bytes of the file.
    public var fileBytes: Int
    /// SHA-256 of the file, in hexadecimal digits.
    public var sha256: String
    /// SHA-256 of the file without its pictures: everything that a reader trusts, and is quick to hash.
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

    /// The sums over `shards`, or nil where they exceed an Int.
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
  /// The corpus's name, part of every sample's identity.
  public var name: String
  /// The names of the classes by label, where labels are names; empty where they are mere numbers or absent.
  public var labels: [String]
  /// Whether the shards hold labels.
  public var labeled: Bool
  public var shards: [Shard]
  public var totals: Totals

  init(name: String, labels: [String], labeled: Bool, shards: [Shard]) throws(CorpusError) {
    guard let totals = Totals(shards) else { throw CorpusError(name, "its counts exceed 64 bits") }
    schema = Self.schema
    self.name = name
    self.labels = labels
    self.labeled = labeled
    self.shards = shards
    self.totals = totals
  }

  /// Reads and checks an index: schema, plain file names, counts that are not negative and add up.
  public static func read(_ path: String) throws -> CorpusIndex {
    let file = try OpenFile.reading(path)
    let bytes = try file.read(try file.size(), of: UInt8.self, at: 0)
    let index: CorpusIndex
    do { index = try JSONDecoder().decode(CorpusIndex.self, from: Data(bytes)) } catch {
      throw CorpusError(path, "is not the index of a corpus: \(Self.reason(error))")
    }
    try index.check(path)
    return index
  }

  private func check(_ path: String) throws(CorpusError) {
    guard schema == Self.schema else {
      throw CorpusError(path, "its schema is \(schema); this program reads \(Self.schema)")
    }
    guard !name.isEmpty else { throw CorpusError(path, "the corpus has no name") }
    for shard in shards {
      let name = shard.file
      guard !name.isEmpty, !name.contains("/"), !name.utf8.contains(0), name != ".", name != ".." else {
        throw CorpusError(path, "the shard name \"\(name)\" is not a plain file name")
      }
      guard min(shard.samples, shard.captions, shard.imageBytes, shard.fileBytes) >= 0 else {
        throw CorpusError(path, "shard \(name) has a negative count")
      }
      guard shard.imageOffset >= 0, shard.imageOffset <= shard.fileBytes - shard.imageBytes else {
        throw CorpusError(path, "shard \(name) is said to have its pictures outside of the file")
      }
    }
    guard Set(shards.map(\.file)).count == shards.count else { throw CorpusError(path, "a shard is named twice") }
    guard Totals(shards) == totals else { throw CorpusError(path, "its totals are not the sums over its shards") }
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
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let text = [UInt8](try encoder.encode(self)) + [UInt8(ascii: "\n")]
    try Publish.file(path, raising: { $0 }, body: { (file) throws(FileError) in try file.append(text) })
  }
}
