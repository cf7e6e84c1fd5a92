import Dist
import Foundation

/// The WordNet ids of ImageNet's 1,000 classes, sorted: a class's label is its position. The public lists of the
/// classes' names are in this order.
struct WordNetIDs: Equatable {
  static let count = 1000

  let names: [String]

  /// Whether a folder is named by a WordNet id: an n and eight digits.
  static func isOne(_ name: some StringProtocol) -> Bool {
    name.utf8.count == 9 && name.utf8.first == UInt8(ascii: "n")
      && name.utf8.dropFirst().allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  }

  /// Names in any order; `place` is where they were found.
  init(_ names: [String], at place: String) throws(ImportError) {
    if let wrong = names.first(where: { !Self.isOne($0) }) {
      throw ImportError(place, "\"\(wrong)\" is no WordNet id (an n and eight digits)")
    }
    self.names = Set(names).sorted()
    guard self.names.count == names.count else { throw ImportError(place, "names a WordNet id twice") }
    guard names.count == Self.count else {
      throw ImportError(place, "holds \(names.count) WordNet ids; ImageNet has \(Self.count) classes")
    }
  }

  /// Reads a list: text whose lines begin with an id (`LOC_synset_mapping.txt` is one), `imagenet_class_index.json`,
  /// or a corpus that was imported from all of ImageNet's folders.
  static func read(_ path: String) throws -> WordNetIDs {
    var isFolder: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw ImportError(path, "does not exist; expected a list of ImageNet's WordNet ids")
    }
    if isFolder.boolValue { return try WordNetIDs(try Corpus.open(path).index.labels, at: path) }
    switch RegularFile.read(path, limit: 1 << 24) {
    case .failure(let reason): throw ImportError(path, reason.words, exitCode: 74)
    case .success(let bytes):
      if bytes.first == UInt8(ascii: "{") { return try classIndex(path) }
      guard let text = String(validating: bytes, as: UTF8.self) else { throw ImportError(path, "is not UTF-8 text") }
      let lines = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
      return try WordNetIDs(lines.filter { !$0.isEmpty }.map { String($0.prefix { !$0.isWhitespace }) }, at: path)
    }
  }

  /// `{"0": ["n01440764", "tench"], …}`.
  private static func classIndex(_ path: String) throws -> WordNetIDs {
    if path.hasSuffix("/" + CorpusIndex.fileName) || path == CorpusIndex.fileName {
      return try WordNetIDs(try CorpusIndex.read(path).labels, at: path)
    }
    let document = try JSONRecord.document(path)
    let names = try (0..<count).map { label in
      guard case .array(let entry)? = document.value("\(label)"), case .string(let name)? = entry.first else {
        throw ImportError(path, "expected {\"0\": [\"n…\", \"name\"], …}, and there is no such entry for \"\(label)\"")
      }
      return name
    }
    let ids = try WordNetIDs(names, at: path)
    guard let label = names.indices.first(where: { names[$0] != ids.names[$0] }) else { return ids }
    throw ImportError(path, "gives \(names[label]) the label \(label); in ImageNet's order it is another class's")
  }

  /// The labels by id.
  var labels: [String: Int] { Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) }) }
}
