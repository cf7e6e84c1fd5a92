import Foundation
import Tensor
import Testing

@testable import Model

@Suite struct TextTokenizerTests {
  /// A tokenizer whose merges, with the ids 512 to 516, can form `low`, `er</w>` and `lower</w>`.
  let tokenizer = BytePairTokenizer(
    vocabulary: try! Vocabulary(
      [("l", "o"), ("lo", "w"), ("e", "r</w>"), ("low", "er</w>"), ("x", "x")], path: "test"),
    context: 8)

  @Test func idsAreBytesThenEndsThenMergesThenSpecials() {
    #expect(tokenizer.vocabulary.size == 512 + 5 + 2)
    #expect(tokenizer.vocabulary.start == 517)
    #expect(tokenizer.vocabulary.end == 518)
    #expect(tokenizer.encode("Lower LOW e") == [517, 515, 512, 256 + 86, 256 + 68, 518])
    #expect(tokenizer.encode("") == [517, 518])
    // The first printable byte has the id 0, and 256 at the end of a word.
    #expect(tokenizer.encode("!") == [517, 256, 518])
  }

  @Test func mergesFromTheLeft() {
    #expect(tokenizer.encode("xxxxx") == [517, 516, 516, 256 + 87, 518])
    #expect(tokenizer.encode("xxx") == [517, 516, 256 + 87, 518])
  }

  @Test func cutsToTheContextAndEndsWithTheEnd() {
    let ids = tokenizer.encode("1 2 3 4 5 6 7 8 9")
    #expect(ids.count == 8)
    #expect(ids.last == 518)
    #expect(tokenizer.encodeWhole("1 2 3 4 5 6 7 8 9").count == 11)
    #expect(tokenizer.encode("1 2 3 4 5 6").count == 8)
  }

  @Test func decodesWhatItEncodes() {
    #expect(tokenizer.decode(tokenizer.encodeWhole("Lower  Köln 🐶!")) == "<start_of_text>lower köln 🐶! <end_of_text>")
    #expect(tokenizer.decode([-1, 9_999]) == "\u{FFFD}\u{FFFD}")
    // A single byte of a longer character is not valid UTF-8.
    #expect(tokenizer.decode([ByteAlphabet.ids[0xC3]]) == "\u{FFFD}")
  }

  /// The ids equal those of CLIP's own algorithm: search the whole word for the pair of least rank and join it
  /// everywhere.
  @Test func equalsThePlainLoopOnRandomVocabulariesAndWords() throws {
    var generator = KeyedRandom(seed: 1, purpose: "vocabularies")
    for _ in 0..<40 {
      // Merges are in any order, so an earlier merge may contain the symbol of a later one.
      var symbols = ["a", "b", "c", "a</w>", "b</w>", "c</w>"]
      var pairs: [(String, String)] = []
      for _ in 0..<30 {
        let left = symbols.filter { !$0.hasSuffix("</w>") }.randomElement(using: &generator)!
        let right = symbols.randomElement(using: &generator)!
        if pairs.contains(where: { $0 == (left, right) }) || left.count + right.count > 16 { continue }
        pairs.append((left, right))
        symbols.append(left + right)
      }
      pairs.shuffle(using: &generator)
      let vocabulary = try Vocabulary(pairs, path: "random")
      let table = MergeTable(vocabulary)
      for _ in 0..<50 {
        let word = (0..<Int.random(in: 1...20)).map { _ in "abc".randomElement(using: &generator)! }
        let expected = plainMerge(word.map(String.init), pairs)
        #expect(table.ids(of: Array(String(word).utf8)).map { vocabulary.symbols[Int($0)] } == expected)
      }
    }
  }

  func plainMerge(_ letters: [String], _ pairs: [(String, String)]) -> [String] {
    var word = letters
    word[word.count - 1] += "</w>"
    while true {
      let present = zip(word, word.dropFirst()).compactMap { pair in
        pairs.lastIndex { $0 == pair }
      }
      guard let rank = present.min() else { return word }
      var joined: [String] = []
      var at = 0
      while at < word.count {
        if at + 1 < word.count, (word[at], word[at + 1]) == pairs[rank] {
          joined.append(word[at] + word[at + 1])
          at += 2
        } else {
          joined.append(word[at])
          at += 1
        }
      }
      word = joined
    }
  }

  @Test(.timeLimit(.minutes(10)), arguments: ["x", "&amp;", "<", "Σ", "가\u{11A8}", "'", "e\u{301}", "&#", "\u{1B}["])
  func takesHostileTextInItsStride(_ part: String) {
    #expect(tokenizer.encode(String(repeating: part, count: 100_000)).count <= 8)
    #expect(tokenizer.encode("a" + String(repeating: part + " ", count: 50_000)).count <= 8)
  }

  @Test func givesEveryThreadTheSame() async {
    let texts = (0..<2_000).map { "lower \($0 % 97) slower low\($0 % 31)x" }
    let expected = texts.map { tokenizer.encode($0) }
    await withTaskGroup(of: [[Int32]].self) { group in
      for _ in 0..<4 { group.addTask { [tokenizer] in texts.map { tokenizer.encode($0) } } }
      for await found in group { #expect(found == expected) }
    }
  }
}
