/// Learns byte-pair merges: again and again the pair that stands most often beside each other becomes a symbol.
///
/// Of equally frequent pairs the one with the lower ids wins, so the same captions give the same vocabulary in
/// whatever order they come. Counts are kept up to date: a merge costs as much as the words that hold it.
public struct VocabularyTrainer {
  /// A word's symbols, and how often the word stands in the corpus.
  private var words: [(symbols: [Int32], count: Int)]
  private var pairCounts: [UInt64: Int] = [:]
  /// By pair: the words that held it at some time.
  private var holders: [UInt64: Set<Int32>] = [:]
  private var queue = BinaryHeap<Candidate>()

  /// A pair with the count that it had when it was queued; the most frequent one is the least.
  private struct Candidate: Comparable {
    let count: Int
    let pair: UInt64

    static func < (a: Candidate, b: Candidate) -> Bool { a.count != b.count ? a.count > b.count : a.pair < b.pair }
  }

  /// Learns at most `merges` merges from `counts`; fewer where no pair is left that stands twice.
  ///
  /// - Throws: `VocabularyError.tooManyMerges` beyond what readers of the format take.
  public static func train(on counts: WordCounts, merges: Int) throws(VocabularyError) -> Vocabulary {
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
      // A symbol that another pair has made already would have two ids.
      guard known.insert(symbol).inserted else { continue }
      learned.append((symbols[Int(left)], symbols[Int(right)]))
      symbols.append(symbol)
      trainer.merge(pair, into: Int32(symbols.count - 1))
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

  /// Takes the most frequent pair out of the queue; nil when none stands twice.
  private mutating func popMostFrequent() -> UInt64? {
    while let candidate = queue.popFirst() {
      let count = pairCounts[candidate.pair] ?? 0
      if count < 2 { continue }
      if count == candidate.count { return candidate.pair }
      // Merges since have made it rarer: back to its place. One that became more frequent was queued again then.
      if count < candidate.count { queue.insert(Candidate(count: count, pair: candidate.pair)) }
    }
    return nil
  }

  /// Joins `pair` to `symbol` in every word that holds it, and counts anew what stands beside each other there.
  private mutating func merge(_ pair: UInt64, into symbol: Int32) {
    let (left, right) = MergeTable.pair(pair)
    var risen: Set<UInt64> = []
    for index in holders.removeValue(forKey: pair) ?? [] {
      let (old, count) = words[Int(index)]
      var new: [Int32] = []
      var at = 0
      while at < old.count {
        if at + 1 < old.count, old[at] == left, old[at + 1] == right {
          new.append(symbol)
          at += 2
        } else {
          new.append(old[at])
          at += 1
        }
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
    zip(symbols, symbols.dropFirst()).lazy.map { MergeTable.key($0, $1) }
  }
}
