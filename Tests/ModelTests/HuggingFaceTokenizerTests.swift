import Foundation
import Testing

@testable import Model

/// `tokenizer.json` and `tokenizer_config.json` of vocabularies of one's own.
@Suite struct HuggingFaceTokenizerTests {
  /// Symbols that JSON has to escape, and two merges that make the same symbol.
  private static let pairs = [
    ("a", "b"), ("c", "d</w>"), ("b", "cd</w>"), ("ab", "cd</w>"), ("a", "bcd</w>"), ("\\", "\"</w>"), ("Ã", "©"),
    ("'", "s</w>"), ("ã", "ģ"),
  ]

  private func vocabulary() throws -> Vocabulary { try Vocabulary(Self.pairs, path: "test") }

  private func expectEqual(_ captions: [String]) throws {
    let vocabulary = try vocabulary()
    let (ours, theirs) = (
      BytePairTokenizer(vocabulary: vocabulary), try HuggingFaceTokenizer(vocabulary.tokenizerJSON(context: 8))
    )
    for caption in captions {
      let found = [vocabulary.start] + theirs.ids(caption) + [vocabulary.end]
      #expect(found == ours.encodeWhole(caption), "\(caption.debugDescription)")
    }
  }

  @Test func hasTheIdsThatKinshipHas() throws {
    try expectEqual([
      "", "abcd ABCD", "\\\" \\", "it's 'S 'ſ caf\u{E9} cafe\u{301}", "<start_of_text> a <END_OF_TEXT>b",
      "<|startoftext|>", "ΟΔΟΣ ΣΑΣ. Σ Α'Σ", "“ab” ‘cd’ ﬁ Ǆ ＡＢ　ＣＤ ｶﾞ",
      "\u{1B}[31mab\u{1B}[0m\u{7} c\u{FEFF}d\u{345}", "12½ a\u{85}b \u{2028}c",
      "&amp;amp;lt;b&gt; &notanentity; &copy 7 &centerdot; &EACUTE; &#x1F436; &#128054;",
    ])
  }

  /// Every character of Windows-1252 is found by its numbers, and by Windows-1252's own.
  @Test func readsReferencesByNumber() throws {
    let codes = (0x21...0x7E).filter { $0 != 0x3C } + Array(0xA1...0xFF) + [0x20AC, 0x2122, 0x80, 0x95, 0x9F, 0x1F600]
    let hexadecimal = codes.map { code in
      "&#x\(String(code, radix: 16));a &#X\(String(code, radix: 16, uppercase: true));"
    }
    try expectEqual([codes.map { "&#\($0);a&#0\($0) b" }.joined(separator: " "), hexadecimal.joined()])
  }

  @Test func describesItself() throws {
    let vocabulary = try vocabulary()
    let json = try vocabulary.tokenizerJSON(context: 8)
    #expect(try json == vocabulary.tokenizerJSON(context: 8))
    let read = try HuggingFaceTokenizer(json)
    // The earlier of two merges with the same result has no id of its own.
    #expect(read.vocabulary.count == vocabulary.size - 1 && read.merges.count == Self.pairs.count)
    #expect(read.vocabulary["abcd</w>"] == 516 && read.vocabulary["\\\"</w>"] == 517)
    #expect(read.vocabulary["<start_of_text>"] == vocabulary.start)
    #expect(read.vocabulary["<end_of_text>"] == vocabulary.end)
    #expect((read.object["truncation"] as? [String: Any])?["max_length"] as? Int == 8)
    let processor = try #require(read.object["post_processor"] as? [String: Any])
    #expect((processor["cls"] as? [Any])?.last as? Int == Int(vocabulary.start))
    #expect((processor["sep"] as? [Any])?.last as? Int == Int(vocabulary.end))
    let config = vocabulary.tokenizerConfig(context: 8)
    #expect(config["eos_token"] as? String == "<end_of_text>" && config["model_max_length"] as? Int == 8)
    #expect((config["added_tokens_decoder"] as? [String: Any])?.keys.sorted() == ["521", "522"])
  }
}
