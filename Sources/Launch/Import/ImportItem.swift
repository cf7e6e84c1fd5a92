import Dist

/// One picture that is to be imported, as its source names it.
struct ImportItem: Sendable, Equatable {
  /// Where in the source it stands: "line 17" of a table, or the picture's path in a folder.
  var place: String
  /// The picture's file, or the tar that holds it.
  var path: String
  /// Where in the tar the picture's bytes are; nil: they are the file.
  var bytes: Range<Int>?
  var key: String
  var captions: [String]
  var label: Int?
}

/// What a source yields for one entry: a picture, or why there is none.
enum ImportEntry: Sendable, Equatable {
  case item(ImportItem)
  case rejected(Rejection)
}

/// An entry that was left out.
struct Rejection: Sendable, Equatable {
  var place: String
  var key: String
  var reason: String
}

/// Pictures in the order in which they become samples.
protocol ImportSource: Sendable {
  /// How many entries there are.
  var count: Int { get }
  /// Whether samples have labels, and the classes' names where labels are names.
  var labeled: Bool { get }
  var labels: [String] { get }
  /// What to change where none of the pictures is found; begins with the punctuation that joins it to the reason.
  var advice: String { get }
  /// The entries, front to back.
  func entries() throws -> any ImportReader
}

extension ImportSource {
  var advice: String { "" }
}

/// A way through a source.
protocol ImportReader: Sendable {
  /// The next entry; nil after the last.
  mutating func next() throws -> ImportEntry?
}

/// How samples are called.
enum SampleKey {
  /// The path without its extension and without U+FE0F, which asks for a coloured emoji and says nothing of which.
  static func from(path: String) -> String {
    var steps = path.split(separator: "/", omittingEmptySubsequences: false)
    while steps.first == "." { steps.removeFirst() }
    if let name = steps.last, let dot = name.lastIndex(of: "."), dot != name.startIndex {
      steps[steps.count - 1] = name[..<dot]
    }
    return clean(steps.joined(separator: "/"))
  }

  /// The key without U+FE0F.
  static func clean(_ key: String) -> String {
    String(String.UnicodeScalarView(key.unicodeScalars.filter { $0 != "\u{FE0F}" }))
  }
}

/// Remembers where each key was met.
struct KeyLedger {
  private let corpus: String
  /// By the sample's identity: a key takes 16 bytes, however long it is.
  private var places: [UInt64: Int] = [:]

  init(corpus: String) { self.corpus = corpus }

  /// Notes `key` at `place`, and returns where it was met before, if it was.
  mutating func note(_ key: String, at place: Int) -> Int? {
    places.updateValue(place, forKey: Corpus.sampleID(corpus: corpus, key: key))
  }
}
