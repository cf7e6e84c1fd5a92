import Synchronization

/// Turns captions into token ids as CLIP does: clean the text, split it into words, and merge byte pairs in each word.
///
/// The ids equal those of open_clip's `SimpleTokenizer`, except for text that was decoded in the wrong encoding, which
/// is left as it is (see `TextRepair`). Any number of threads may use a tokenizer concurrently.
public final class BytePairTokenizer: Sendable {
  public let vocabulary: Vocabulary
  /// The maximum length of a caption in tokens, including start and end of text.
  public let context: Int
  private let merges: MergeTable
  private let cache = Mutex<[[UInt8]: [Int32]]>([:])
  /// The maximum number of cached words, and their maximum length in bytes; together about 10 MB.
  private static let cacheLimit = (words: 65_536, bytes: 64)

  public init(vocabulary: Vocabulary, context: Int = 77) {
    precondition(context >= 2, "a context of \(context) tokens has no room for start and end of text")
    (self.vocabulary, self.context) = (vocabulary, context)
    merges = MergeTable(vocabulary)
  }

  /// Returns the token ids of a caption without padding, [≤ context]: start of text, words, end of text. A longer
  /// caption is truncated, and its last token is end of text.
  public func encode(_ text: String) -> [Int32] {
    var ids = encodeWhole(text)
    if ids.count > context { ids.replaceSubrange((context - 1)..., with: [vocabulary.end]) }
    return ids
  }

  /// Returns the token ids of a caption like `encode`, but without truncation.
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

  /// Returns the text of token ids, with a space after each word. Broken UTF-8 and unknown ids become U+FFFD.
  public func decode(_ ids: some Sequence<Int32>) -> String {
    var bytes: [UInt8] = []
    for id in ids {
      switch id {
      case vocabulary.start: bytes += "<start_of_text>".utf8
      case vocabulary.end: bytes += "<end_of_text>".utf8
      case 0..<vocabulary.start:
        let symbol = vocabulary.text(of: id)
        bytes += symbol.bytes + (symbol.endsWord ? [0x20] : [])
      default: bytes += "\u{FFFD}".utf8
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

/// The merges of a vocabulary, indexed by the pair of symbols that they join.
struct MergeTable: Sendable {
  private let ranks: [UInt64: Int32]
  private let results: [Int32]

  init(_ vocabulary: Vocabulary) {
    let keys = vocabulary.merges.map { Self.key(left: $0.left, right: $0.right) }
    ranks = Dictionary(zip(keys, Int32(0)...), uniquingKeysWith: { $1 })
    results = vocabulary.results
  }

  /// Packs the ids of a pair into one number, which `pair` unpacks.
  static func key(left: Int32, right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  static func pair(_ key: UInt64) -> (left: Int32, right: Int32) {
    (Int32(truncatingIfNeeded: key >> 32), Int32(truncatingIfNeeded: key))
  }

  /// Returns the ids of a word's bytes before any merge. The last id is that of a byte at the end of a word.
  static func byteIDs(of word: some Collection<UInt8>) -> [Int32] {
    var ids = word.map { ByteAlphabet.ids[Int($0)] }
    if let last = ids.indices.last { ids[last] += 256 }
    return ids
  }

  /// Returns the token ids of a word: the known pair that was learned first is joined wherever it occurs, from left to
  /// right, until no known pair is left. It takes n log n steps for n bytes: a hostile word of a megabyte is harmless.
  func ids(of word: some Collection<UInt8>) -> [Int32] {
    var symbols = Self.byteIDs(of: word)
    if symbols.isEmpty { return [] }
    // A linked list over the symbols; a symbol that is joined to its left neighbour leaves the list.
    var next = Array(1...symbols.count)
    var previous = Array(-1..<symbols.count - 1)
    var isJoined = [Bool](repeating: false, count: symbols.count)

    func rankOfPair(at index: Int) -> Int32? {
      guard index >= 0, !isJoined[index], next[index] < symbols.count else { return nil }
      return ranks[Self.key(left: symbols[index], right: symbols[next[index]])]
    }

    // The rank is in the upper half and the position in the lower: the least is the leftmost pair of the lowest rank.
    var queue = BinaryHeap<UInt64>()
    func enqueue(_ index: Int) {
      if let rank = rankOfPair(at: index) { queue.insert(UInt64(UInt32(bitPattern: rank)) << 32 | UInt64(index)) }
    }
    for index in symbols.indices.dropLast() { enqueue(index) }

    while let first = queue.first {
      let rank = Int32(first >> 32)
      var changed: [Int] = []
      // Every occurrence of this pair is joined before any pair that results from it.
      while let entry = queue.first, Int32(entry >> 32) == rank {
        _ = queue.popFirst()
        let index = Int(entry & 0xFFFF_FFFF)
        guard rankOfPair(at: index) == rank else { continue }
        let joined = next[index]
        symbols[index] = results[Int(rank)]
        isJoined[joined] = true
        next[index] = next[joined]
        if next[joined] < symbols.count { previous[next[joined]] = index }
        changed.append(index)
      }
      for index in changed.flatMap({ [$0, previous[$0]] }) { enqueue(index) }
    }
    return symbols.indices.filter { !isJoined[$0] }.map { symbols[$0] }
  }
}
