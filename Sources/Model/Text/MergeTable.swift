/// The merges of a vocabulary, found by the pair that they join.
struct MergeTable: Sendable {
  private let ranks: [UInt64: Int32]
  private let results: [Int32]

  init(_ vocabulary: Vocabulary) {
    var ranks: [UInt64: Int32] = [:]
    ranks.reserveCapacity(vocabulary.merges.count)
    for (rank, merge) in vocabulary.merges.enumerated() { ranks[Self.key(merge.left, merge.right)] = Int32(rank) }
    self.ranks = ranks
    results = vocabulary.results
  }

  static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  static func pair(_ key: UInt64) -> (left: Int32, right: Int32) {
    (Int32(truncatingIfNeeded: key >> 32), Int32(truncatingIfNeeded: key))
  }

  /// The ids of a word's bytes, before any merge; the last one bears the end of the word.
  static func byteIDs(of word: some Collection<UInt8>) -> [Int32] {
    var ids = word.map { ByteAlphabet.ids[Int($0)] }
    if let last = ids.indices.last { ids[last] += 256 }
    return ids
  }

  /// The ids of one word: of all pairs the one learned first is joined wherever it stands, from the left, until no
  /// pair is known. Takes n log n steps for n bytes, so a hostile word of a megabyte is no trouble.
  func ids(of word: some Collection<UInt8>) -> [Int32] {
    var symbols = Self.byteIDs(of: word)
    if symbols.isEmpty { return [] }
    // A list over the symbols: those that were joined to their left neighbour drop out.
    var next = Array(1...symbols.count)
    var previous = Array(-1..<symbols.count - 1)
    var isJoined = [Bool](repeating: false, count: symbols.count)

    func rankOfPair(at index: Int) -> Int32? {
      guard index >= 0, !isJoined[index], next[index] < symbols.count else { return nil }
      return ranks[Self.key(symbols[index], symbols[next[index]])]
    }

    // Rank above, place below: the least is the leftmost of the pairs learned first.
    var queue = BinaryHeap<UInt64>()
    func enqueue(_ index: Int) {
      if let rank = rankOfPair(at: index) { queue.insert(UInt64(UInt32(bitPattern: rank)) << 32 | UInt64(index)) }
    }
    for index in symbols.indices.dropLast() { enqueue(index) }

    while let first = queue.first {
      let rank = Int32(first >> 32)
      var changed: [Int] = []
      // All places of this pair before any pair that they give rise to.
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
      for index in changed {
        enqueue(index)
        enqueue(previous[index])
      }
    }
    return symbols.indices.filter { !isJoined[$0] }.map { symbols[$0] }
  }
}
