/// Learns byte-pair merges: the most frequent pair of adjacent symbols repeatedly becomes a new symbol.
///
/// If pairs are equally frequent, the one with the lower ids wins, so the same captions give the same vocabulary in any
/// order. Counts are updated incrementally: a merge costs as much as the words that contain its pair.
public struct VocabularyTrainer {
  /// The symbols of each word, and the number of times that the word occurs in the dataset.
  private var words: [(symbols: [Int32], count: Int)]
  private var pairCounts: [UInt64: Int] = [:]
  /// For each pair, the indices of the words that have contained it at some time.
  private var holders: [UInt64: Set<Int32>] = [:]
  private var queue = BinaryHeap<Candidate>()

  /// A pair with the count that it had when it was queued. The most frequent pair is the least.
  private struct Candidate: Comparable {
    let count: Int
    let pair: UInt64
    static func < (a: Candidate, b: Candidate) -> Bool { a.count != b.count ? a.count > b.count : a.pair < b.pair }
  }

  /// Learns `merges` merges from `counts`, or fewer if no pair is left that occurs twice. Throws
  /// `VocabularyError.tooManyMerges` if readers of the format would not accept as many. `each` is called for each
  /// merge.
  public static func train(
    on counts: WordCounts, merges: Int, each: () -> Void = {}
  ) throws(VocabularyError) -> Vocabulary {
    guard (0...Vocabulary.mergeLimit).contains(merges) else {
      throw .tooManyMerges(asked: merges, limit: Vocabulary.mergeLimit)
    }
    var trainer = VocabularyTrainer(counts)
    var symbols = Vocabulary.byteSymbols
    var known = Set(symbols)
    var learned: [(String, String)] = []
    while learned.count < merges, let pair = trainer.popMostFrequent() {
      let (left, right) = MergeTable.pair(pair)
      let symbol = symbols[Int(left)] + symbols[Int(right)]
      // A symbol that another pair has already made would have two ids.
      guard known.insert(symbol).inserted else { continue }
      learned.append((symbols[Int(left)], symbols[Int(right)]))
      symbols.append(symbol)
      trainer.merge(pair, into: Int32(symbols.count - 1))
      each()
    }
    return try Vocabulary(learned, path: "learned from captions")
  }

  private init(_ counts: WordCounts) {
    words = counts.words.map { (symbols: MergeTable.byteIDs(of: $0.key), count: $0.value) }
    for (index, word) in words.enumerated() {
      for pair in Self.pairs(of: word.symbols) {
        pairCounts[pair, default: 0] += word.count
        holders[pair, default: []].insert(Int32(index))
      }
    }
    for (pair, count) in pairCounts { queue.insert(Candidate(count: count, pair: pair)) }
  }

  /// Removes the most frequent pair from the queue and returns it, or nil if no pair occurs twice.
  private mutating func popMostFrequent() -> UInt64? {
    while let candidate = queue.popFirst() {
      guard let count = pairCounts[candidate.pair], count >= 2 else { continue }
      if count == candidate.count { return candidate.pair }
      // Merges have made the pair rarer since, so it is queued again. A pair that became more frequent was queued then.
      if count < candidate.count { queue.insert(Candidate(count: count, pair: candidate.pair)) }
    }
    return nil
  }

  /// Replaces `pair` by `symbol` in every word that contains it, and updates the counts of the pairs in these words.
  private mutating func merge(_ pair: UInt64, into symbol: Int32) {
    let (left, right) = MergeTable.pair(pair)
    var risen: Set<UInt64> = []
    for index in holders.removeValue(forKey: pair) ?? [] {
      let (old, count) = words[Int(index)]
      var new: [Int32] = []
      var at = 0
      while at < old.count {
        let isPair = at + 1 < old.count && old[at] == left && old[at + 1] == right
        new.append(isPair ? symbol : old[at])
        at += isPair ? 2 : 1
      }
      if new.count == old.count { continue }
      words[Int(index)].symbols = new
      for gone in Self.pairs(of: old) { pairCounts[gone, default: 0] -= count }
      for here in Self.pairs(of: new) {
        pairCounts[here, default: 0] += count
        holders[here, default: []].insert(index)
        risen.insert(here)
      }
    }
    pairCounts[pair] = nil
    holders[pair] = nil
    for pair in risen where pair >> 32 == UInt64(symbol) || pair & 0xFFFF_FFFF == UInt64(symbol) {
      queue.insert(Candidate(count: pairCounts[pair] ?? 0, pair: pair))
    }
  }

  private static func pairs(of symbols: [Int32]) -> some Sequence<UInt64> {
    zip(symbols, symbols.dropFirst()).lazy.map { MergeTable.key(left: $0, right: $1) }
  }
}

/// The number of times that each word occurs in a set of captions, which is all that vocabulary training needs.
public struct WordCounts: Sendable, Equatable {
  /// The count of each word, by its bytes.
  private(set) var words: [[UInt8]: Int] = [:]
  /// The maximum length of a word in bytes. Longer runs without a space are hardly words, and are not counted.
  private static let lengthLimit = 1_024

  public init() {}

  /// The number of distinct words.
  public var distinct: Int { words.count }
  /// The number of words, repetitions included.
  public var total: Int { words.values.reduce(0, +) }

  /// Adds the words of a caption, split as the tokenizer splits them.
  public mutating func add(_ caption: String) {
    WordSplitter.pieces(of: TextCleaner.clean(caption)) { piece in
      guard case .word(let scalars) = piece else { return }
      let bytes = WordSplitter.bytes(of: scalars)
      if bytes.count <= Self.lengthLimit { words[bytes, default: 0] += 1 }
    }
  }

  /// Adds the counts of other captions, for example those that another rank has read.
  public mutating func add(_ other: WordCounts) { words.merge(other.words, uniquingKeysWith: +) }

  /// The counts as bytes to send: for each word its count, a space, the word, which has no spaces, and a line feed.
  public var serialized: [UInt8] {
    words.reduce(into: []) { bytes, entry in bytes += Array("\(entry.value) ".utf8) + entry.key + [0x0A] }
  }

  /// Restores the counts from the bytes of `serialized`.
  public init(serialized bytes: [UInt8]) {
    for line in bytes.split(separator: 0x0A) {
      let parts = line.split(separator: 0x20, maxSplits: 1)
      guard parts.count == 2, let count = Int(String(decoding: parts[0], as: UTF8.self)) else {
        preconditionFailure("not word counts: \(String(decoding: line, as: UTF8.self))")
      }
      words[Array(parts[1]), default: 0] += count
    }
  }
}

/// A priority queue that returns its least element first.
struct BinaryHeap<Element: Comparable> {
  private var elements: [Element] = []
  var first: Element? { elements.first }

  mutating func insert(_ element: Element) {
    elements.append(element)
    var child = elements.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard elements[child] < elements[parent] else { break }
      elements.swapAt(child, parent)
      child = parent
    }
  }

  mutating func popFirst() -> Element? {
    guard let least = elements.first, let last = elements.popLast() else { return nil }
    if elements.isEmpty { return least }
    elements[0] = last
    var parent = 0
    while true {
      var child = 2 * parent + 1
      guard child < elements.count else { break }
      if child + 1 < elements.count, elements[child + 1] < elements[child] { child += 1 }
      guard elements[child] < elements[parent] else { break }
      elements.swapAt(child, parent)
      parent = child
    }
    return least
  }
}
