import Dist

/// One image to import, as its source names it.
struct ImportItem: Sendable, Equatable {
  /// The item's place in the source: "line 17" of a table, or the image's path in a folder.
  var place: String
  /// The image's file, or the tar that holds it.
  var path: String
  /// The range of the image's bytes in the tar; nil if the image is a file of its own.
  var bytes: Range<Int>?
  var key: String
  var captions: [String] = []
  var label: Int?
  /// The values in the columns that conditions on samples name, in the order of these columns.
  var values: [ColumnValue] = []
}

struct Rejection: Error, Equatable { var place, key, reason: String }

/// Why a part of a source cannot be used: a clause that follows the part's name, such as "is empty".
struct ImportReason: Error, Equatable {
  let words: String

  init(_ words: String) { self.words = words }
}

/// An entry of a source: an image, or the reason why it is left out.
enum ImportEntry: Sendable, Equatable {
  case item(ImportItem)
  case rejected(Rejection)

  /// Takes the item, or rejects it if it has neither a caption nor a label.
  init(_ item: ImportItem) {
    let isBare = item.captions.isEmpty && item.label == nil
    self = isBare ? .leftOut(item.place, key: item.key, "has neither a caption nor a label") : .item(item)
  }

  static func leftOut(_ place: String, key: String, _ reason: String) -> ImportEntry {
    .rejected(Rejection(place: place, key: key, reason: reason))
  }
}

/// Images in the order in which they become samples.
protocol ImportSource: Sendable {
  var count: Int { get }
  var labeled: Bool { get }
  /// The classes' names by label, if labels are names.
  var labels: [String] { get }
  /// Tells the user what to change if none of the images is found. The text begins with the punctuation that joins it
  /// to the reason.
  var advice: String { get }
  func entries() throws -> ImportReader
}

extension ImportSource { var advice: String { "" } }

/// Returns a source's next entry, or nil after the last.
typealias ImportReader = () throws -> ImportEntry?

enum SampleKey {
  /// Returns the path without its extension and without U+FE0F, which only asks for an emoji's coloured form.
  static func from(path: String) -> String {
    var steps = path.split(separator: "/", omittingEmptySubsequences: false)
    while steps.first == "." { steps.removeFirst() }
    if let name = steps.last, let dot = name.lastIndex(of: "."), dot != name.startIndex {
      steps[steps.count - 1] = name[..<dot]
    }
    return clean(steps.joined(separator: "/"))
  }

  static func clean(_ key: String) -> String {
    String(String.UnicodeScalarView(key.unicodeScalars.filter { $0 != "\u{FE0F}" }))
  }
}

enum SampleLabel {
  /// Returns a whole number without leading zeros, without the fraction that pandas writes where fields are empty, and
  /// without numpy's exponent: `4.0` and `4.000e+00` are `4`. Any other text is returned as it is.
  static func plain(_ text: String) -> String { whole(text).flatMap(Int.init(exactly:)).map(String.init) ?? text }

  /// Returns the number if the text is a whole one in decimal notation, however large.
  static func whole(_ text: String) -> Double? {
    guard text.utf8.allSatisfy({ "0123456789.eE+-".utf8.contains($0) }), let number = Double(text) else { return nil }
    return number.isFinite && number == number.rounded() ? number : nil
  }
}

/// Remembers where each key was first seen.
struct KeyLedger {
  let dataset: String
  /// The places by the sample's identity: a key takes 16 bytes, however long it is.
  private var places: [UInt64: Int] = [:]

  init(dataset: String) { self.dataset = dataset }

  /// Records that `key` stands at `place`, and returns its earlier place if it has one.
  mutating func note(_ key: String, at place: Int) -> Int? {
    places.updateValue(place, forKey: Dataset.sampleID(dataset: dataset, key: key))
  }
}

extension [String] {
  /// The position of each string; no string may come twice.
  var positions: [String: Int] { Dictionary(uniqueKeysWithValues: enumerated().map { ($1, $0) }) }
}

extension Sequence<String> {
  /// Returns the strings in the order of their UTF-8 bytes, which is the same in every locale.
  func sortedByBytes() -> [String] { sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } }
}

extension Sequence<UInt8> {
  var areDigits: Bool { allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } }
}
