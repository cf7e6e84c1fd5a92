import Tensor
import TestSupport
import Testing

@testable import Model

@Suite struct TextVocabularyTrainerTests {
  @Test func learnsTheMostFrequentPairFirst() throws {
    var counts = WordCounts()
    for _ in 0..<5 { counts.add("low") }
    for _ in 0..<2 { counts.add("lower") }
    for _ in 0..<6 { counts.add("newest") }
    for _ in 0..<3 { counts.add("WIDEST") }
    // e-s and s-t</w> occur 9 times each, and e has the lower id.
    let vocabulary = try VocabularyTrainer.train(on: counts, merges: 4)
    #expect(vocabulary.symbols[512...] == ["es", "est</w>", "lo", "ew"])
  }

  @Test func stopsWhereNoPairStandsTwice() throws {
    var counts = WordCounts()
    counts.add("ab ab xyz")
    #expect(try VocabularyTrainer.train(on: counts, merges: 100).symbols[512...] == ["ab</w>"])
    #expect(try VocabularyTrainer.train(on: WordCounts(), merges: 100).mergeCount == 0)
    #expect(throws: VocabularyError.tooManyMerges(asked: 48_895, limit: 48_894)) {
      try VocabularyTrainer.train(on: counts, merges: 48_895)
    }
    #expect(throws: VocabularyError.tooManyMerges(asked: -1, limit: 48_894)) {
      try VocabularyTrainer.train(on: counts, merges: -1)
    }
  }

  /// The merges equal those of an algorithm that counts all pairs of all words again before each merge.
  @Test(arguments: 0..<12) func equalsThePlainLoop(seed: UInt64) throws {
    var generator = KeyedRandom(seed: seed, purpose: "captions")
    var captions: [String] = []
    for _ in 0..<60 {
      captions.append(String((0..<generator.below(9) + 1).map { _ in "aabcdé ".randomElement(using: &generator)! }))
    }
    var counts = WordCounts()
    for caption in captions { counts.add(caption) }
    let vocabulary = try VocabularyTrainer.train(on: counts, merges: 60)
    #expect(vocabulary.symbols[512...] == plainTrain(counts, merges: 60)[512...])
    #expect(Set(vocabulary.symbols).count == vocabulary.symbols.count)

    // The same captions in another order and from two ranks give the same vocabulary.
    var first = WordCounts()
    var second = WordCounts()
    for caption in captions.reversed().prefix(20) { first.add(caption) }
    for caption in captions.reversed().dropFirst(20) { second.add(caption) }
    first.add(WordCounts(serialized: second.serialized))
    #expect(first == counts)
    #expect(try VocabularyTrainer.train(on: first, merges: 60).symbols == vocabulary.symbols)
  }

  func plainTrain(_ counts: WordCounts, merges: Int) -> [String] {
    var words = counts.words.map { (MergeTable.byteIDs(of: $0.key), $0.value) }
    var symbols = Vocabulary.byteSymbols
    var banned: Set<[Int32]> = []
    while symbols.count < 512 + merges {
      var pairs: [[Int32]: Int] = [:]
      for (word, count) in words {
        for (left, right) in zip(word, word.dropFirst()) where !banned.contains([left, right]) {
          pairs[[left, right], default: 0] += count
        }
      }
      guard let best = pairs.min(by: { ($1.value, $0.key[0], $0.key[1]) < ($0.value, $1.key[0], $1.key[1]) }),
        best.value > 1
      else { break }
      let symbol = symbols[Int(best.key[0])] + symbols[Int(best.key[1])]
      if symbols.contains(symbol) {
        banned.insert(best.key)
        continue
      }
      symbols.append(symbol)
      for index in words.indices {
        var word = words[index].0
        var at = 0
        while at + 1 < word.count {
          if word[at] == best.key[0], word[at + 1] == best.key[1] {
            word.replaceSubrange(at...at + 1, with: [Int32(symbols.count - 1)])
          }
          at += 1
        }
        words[index].0 = word
      }
    }
    return symbols
  }

  /// A learned vocabulary gives the same ids after it is written to a file and read again.
  @Test func aLearnedVocabularySurvivesItsFile() throws {
    var counts = WordCounts()
    let captions = ["grinning face", "grinning cat", "a face with tears of joy", "cat with tears of joy", "¡café! 🐶🐶"]
    for caption in captions { counts.add(caption) }
    let learned = try VocabularyTrainer.train(on: counts, merges: 200)
    #expect(learned.mergeCount > 20)
    let folder = try TemporaryFolder()
    try learned.write(to: folder.path("v.txt.gz"))
    let read = try Vocabulary(contentsOf: folder.path("v.txt.gz"))
    let tokenizers = [learned, read].map { BytePairTokenizer(vocabulary: $0) }
    for caption in captions {
      #expect(tokenizers[0].encode(caption) == tokenizers[1].encode(caption))
      #expect(tokenizers[1].encode(caption).count < caption.utf8.count)
    }
    // A frequent word has become one symbol.
    #expect(tokenizers[1].encode("grinning").count == 3)
  }
}
