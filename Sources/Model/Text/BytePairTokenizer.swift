import Synchronization

/// Captions to token ids, as CLIP does it: repair and lower-case, split into words, merge byte pairs.
///
/// The ids equal those of open_clip's `SimpleTokenizer` but for text that was decoded in the wrong encoding, which is
/// left as it is (see `TextRepair`). May be used by any number of threads at once.
public final class BytePairTokenizer: Sendable {
  public let vocabulary: Vocabulary
  /// The most tokens of a caption, start and end included.
  public let context: Int

  private let merges: MergeTable
  private let cache = Mutex<[[UInt8]: [Int32]]>([:])

  /// Words that are remembered, and the longest of them in bytes: together 10 MB or so at most.
  private static let cacheLimit = (words: 65_536, bytes: 64)

  public init(vocabulary: Vocabulary, context: Int = 77) {
    precondition(context >= 2, "a context of \(context) tokens has no room for start and end of text")
    self.vocabulary = vocabulary
    self.context = context
    merges = MergeTable(vocabulary)
  }

  /// The ids of a caption, [≤ context]: start of text, words, end of text, without padding. What is too long is cut
  /// off, and end of text takes the last place.
  public func encode(_ text: String) -> [Int32] {
    var ids = encodeWhole(text)
    if ids.count > context {
      ids.removeLast(ids.count - context)
      ids[context - 1] = vocabulary.end
    }
    return ids
  }

  /// As `encode`, of any length.
  public func encodeWhole(_ text: String) -> [Int32] {
    var ids = [vocabulary.start]
    WordSplitter.pieces(of: TextCleaner.clean(text)) { piece in
      switch piece {
      case .start: ids.append(vocabulary.start)
      case .end: ids.append(vocabulary.end)
      case .word(let scalars): ids += self.ids(of: WordSplitter.bytes(of: scalars))
      }
    }
    return ids + [vocabulary.end]
  }

  /// The text of some ids: a space after each word; bytes that are no UTF-8, and ids that are none of ours, become
  /// U+FFFD.
  public func decode(_ ids: some Sequence<Int32>) -> String {
    var bytes: [UInt8] = []
    for id in ids {
      if id == vocabulary.start {
        bytes += "<start_of_text>".utf8
      } else if id == vocabulary.end {
        bytes += "<end_of_text>".utf8
      } else if id >= 0, id < vocabulary.start {
        let symbol = vocabulary.text(of: id)
        bytes += symbol.bytes
        if symbol.endsWord { bytes.append(0x20) }
      } else {
        bytes += "\u{FFFD}".utf8
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private func ids(of word: [UInt8]) -> [Int32] {
    if let known = cache.withLock({ $0[word] }) { return known }
    let ids = merges.ids(of: word)
    if word.count <= Self.cacheLimit.bytes {
      cache.withLock {
        if $0.count >= Self.cacheLimit.words { $0.removeAll(keepingCapacity: true) }
        $0[word] = ids
      }
    }
    return ids
  }
}
