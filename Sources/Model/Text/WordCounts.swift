/// How often each word stands in some captions: all that learning a vocabulary needs to know of them.
public struct WordCounts: Sendable, Equatable {
  /// By the word's bytes.
  private(set) var words: [[UInt8]: Int] = [:]

  /// Longer runs without a space are no words: what they teach is not worth the time they take.
  private static let lengthLimit = 1_024

  public init() {}

  public var distinct: Int { words.count }
  public var total: Int { words.values.reduce(0, +) }

  /// Counts the words of a caption, split as the tokenizer splits them.
  public mutating func add(_ caption: String) {
    WordSplitter.pieces(of: TextCleaner.clean(caption)) { piece in
      guard case .word(let scalars) = piece else { return }
      let bytes = WordSplitter.bytes(of: scalars)
      if bytes.count <= Self.lengthLimit { words[bytes, default: 0] += 1 }
    }
  }

  /// Adds the counts of other captions, such as those that another rank has read.
  public mutating func add(_ other: WordCounts) { words.merge(other.words, uniquingKeysWith: +) }

  /// The counts as bytes, for sending: of each word its count, a space, the word, a line feed. Words have neither.
  public var serialized: [UInt8] {
    words.reduce(into: []) { bytes, entry in
      bytes += "\(entry.value) ".utf8
      bytes += entry.key
      bytes.append(0x0A)
    }
  }

  /// The counts that `serialized` gave.
  public init(serialized bytes: [UInt8]) {
    for line in bytes.split(separator: 0x0A) {
      let parts = line.split(separator: 0x20, maxSplits: 1)
      guard parts.count == 2, let count = Int(String(decoding: parts[0], as: UTF8.self)) else {
        preconditionFailure("not counts of words: \(String(decoding: line, as: UTF8.self))")
      }
      words[Array(parts[1]), default: 0] += count
    }
  }
}
