import Foundation

/// A vocabulary in the files of Hugging Face's `tokenizers` and `transformers`. The ids are those of
/// `BytePairTokenizer`, but for the references to characters that `CleaningRules` leaves as they are.
extension Vocabulary {
  /// The special tokens, start and end of text. These are open_clip's names, which a text may contain; of
  /// `<|startoftext|>`, Hugging Face's name, open_clip and Kinship make words.
  private static let special = ["<start_of_text>", "<end_of_text>"]

  /// Returns the text of `tokenizer.json` for captions of at most `context` tokens. Padding is left to the reader:
  /// whatever follows the first end of text changes no embedding.
  public func tokenizerJSON(context: Int) throws -> String {
    func part(_ type: String, _ fields: [String: Any]) -> [String: Any] { fields.merging(["type": type]) { $1 } }
    func sequence(_ name: String, _ parts: [[String: Any]]) -> [String: Any] { part("Sequence", [name: parts]) }
    func ends(_ index: Int, _ id: Int32) -> [Any] { [Self.special[index], Int(id)] }
    let bytes = part("ByteLevel", ["add_prefix_space": false, "trim_offsets": false, "use_regex": false])
    let words = part("Split", ["pattern": ["Regex": CleaningRules.words], "behavior": "Removed", "invert": true])
    let space = part("Replace", ["pattern": ["String": Self.wordEnd], "content": "\u{120}"])
    let truncation: [String: Any] = [
      "direction": "Right", "max_length": context, "strategy": "LongestFirst", "stride": 0,
    ]
    let object: [String: Any] = [
      "version": "1.0", "truncation": truncation, "padding": NSNull(),
      "added_tokens": [start, end].map { addedToken($0).merging(["id": Int($0)]) { $1 } },
      "normalizer": sequence("normalizers", CleaningRules.all),
      "pre_tokenizer": sequence("pretokenizers", [words, bytes]),
      "post_processor": part(
        "RobertaProcessing",
        ["cls": ends(0, start), "sep": ends(1, end), "trim_offsets": false, "add_prefix_space": false]),
      "decoder": sequence("decoders", [space, bytes]),
    ]
    let json = try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys, .withoutEscapingSlashes])
    return "\(String(decoding: json, as: UTF8.self).dropLast()),\"model\":\(modelJSON)}\n"
  }

  /// The vocabulary in the order of its ids, and its merges.
  private var modelJSON: String {
    // Of two merges that make the same symbol, the later one's id counts.
    let ids = symbols.indices.filter { $0 < Self.byteSymbols.count || Int(results[$0 - Self.byteSymbols.count]) == $0 }
    let special = zip(Self.special, [start, end]).map { "\"\($0)\":\($1)" }
    let tokens = ids.map { "\(Self.quoted(symbols[$0])):\($0)" } + special
    let pairs = merges.map { Self.quoted("\(symbols[Int($0.left)]) \(symbols[Int($0.right)])") }
    return """
      {"type":"BPE","dropout":null,"unk_token":"\(Self.special[1])","continuing_subword_prefix":"",\
      "end_of_word_suffix":"\(Self.wordEnd)","fuse_unk":false,"byte_fallback":false,"ignore_merges":false,\
      "vocab":{\(tokens.joined(separator: ","))},"merges":[\(pairs.joined(separator: ","))]}
      """
  }

  /// Returns symbols as a JSON string. They are printable, so that only quotes and backslashes need an escape.
  private static func quoted(_ text: String) -> String {
    guard text.utf8.contains(where: { $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "\\") }) else {
      return "\"\(text)\""
    }
    return "\"\(text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\""))\""
  }

  /// Returns the contents of `tokenizer_config.json`. transformers' class for CLIP would replace the rules of
  /// `tokenizer.json` by its own; the class that is named here takes them as they are.
  public func tokenizerConfig(context: Int) -> [String: Any] {
    [
      "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context, "bos_token": Self.special[0],
      "eos_token": Self.special[1], "unk_token": Self.special[1], "pad_token": Self.special[1],
      "clean_up_tokenization_spaces": false, "model_input_names": ["input_ids", "attention_mask"],
      "added_tokens_decoder": Dictionary(uniqueKeysWithValues: [start, end].map { ("\($0)", addedToken($0)) }),
    ]
  }

  /// Returns the description of a special token, which is sought in the cleaned text, so that capitals do not hide it.
  private func addedToken(_ id: Int32) -> [String: Any] {
    [
      "content": Self.special[id == start ? 0 : 1], "single_word": false, "lstrip": false, "rstrip": false,
      "normalized": true, "special": true,
    ]
  }
}

/// The work of `TextCleaner` and `WordSplitter` as rules of `tokenizers`, each of which replaces what a regular
/// expression matches by a constant text.
///
/// A rule can write one character only, so references are replaced if they stand for a character of Windows-1252, by
/// name or number, or for an emoji of U+1F300 to U+1F64F, by number; others are left, and so is what
/// `TextRepair` treats in another way because a literal `<` stands before it.
enum CleaningRules {
  /// The regular expression of a word.
  static let words = #"'(?:[s\x{17f}]|t|re|ve|m|ll|d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"#

  /// The regular expression of Σ at the end of a word.
  private static let finalSigma: String = {
    let (cased, between) = (#"[\p{Cased}&&[^\p{Case_Ignorable}]]"#, #"\p{Case_Ignorable}"#)
    return #"(?<=\#(cased)\#(between){0,8})\x{3a3}(?!\#(between)*\#(cased))"#
  }()

  /// All rules in the order in which they are applied.
  static var all: [[String: Any]] {
    let last: [[String: Any]] = [
      ["type": "NFC"], replacing(#"\s+"#, " "), replacing(finalSigma, "\u{3C2}"), ["type": "Lowercase"],
    ]
    return references + characters + last
  }

  private static func replacing(_ pattern: String, _ content: String) -> [String: Any] {
    ["type": "Replace", "pattern": ["Regex": pattern], "content": content]
  }

  private static var references: [[String: Any]] {
    func rule(_ scalar: Unicode.Scalar, _ suffix: String = "", _ numbers: [UInt32] = []) -> [String: Any] {
      replacing("&\(HTMLReferences.pattern(of: scalar, numbers))\(suffix)", String(scalars: [scalar]))
    }
    // The last character is the first, or &centerdot; would be read as &cent; followed by letters.
    let latin = (scalars(0x20...0x7E) + scalars(0xA0...0xFF)).reversed().filter { $0 != "&" }
    let others = CharacterTables.windows1252.enumerated().filter { $0.element.value >= 0xA0 }.map { at, scalar in
      let byte = UInt32(0x80 + at)
      return rule(scalar, "|\(code(byte))", [byte])
    }
    let plain = (latin + scalars(0x1F300...0x1F64F)).map { rule($0) }
    // An ampersand may have been escaped any number of times.
    return [rule("&", "+")] + plain + others
  }

  private static var characters: [[String: Any]] {
    let widths = (scalars(0x3000...0x3000) + scalars(0xFF01...0xFFEF)).compactMap { scalar in
      CharacterTables.normalWidth(scalar).map { (key: scalar, value: String(scalars: $0)) }
    }.filter { $0.value != String(scalars: [$0.key]) }
    let ligatures = CharacterTables.ligatures.sorted { $0.key < $1.key }
    let single = (ligatures + widths).map { replacing(code($0.key.value), $0.value) }
    return single + [
      replacing(#"[\x{2bc}\x{2018}-\x{201b}]"#, "'"), replacing(#"[\x{201c}-\x{201f}]"#, "\""),
      replacing(#"\x{1b}\[[;\p{Nd}]*[a-zA-Z]"#, ""),
      replacing(#"[\x{0}-\x{8}\x{b}\x{e}-\x{1f}\x{7f}\x{206a}-\x{206f}\x{feff}\x{fff9}-\x{fffc}]"#, ""),
    ]
  }

  private static func scalars(_ codes: ClosedRange<UInt32>) -> UnicodeScalars {
    codes.compactMap { Unicode.Scalar($0) }
  }

  private static func code(_ value: UInt32) -> String { "\\x{\(String(value, radix: 16))}" }
}
