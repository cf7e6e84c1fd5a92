/// Text as Unicode scalars, which is how CLIP's tokenizer sees it.
typealias UnicodeScalars = [Unicode.Scalar]

extension String {
  /// Creates a string of these scalars.
  init(scalars: some Sequence<Unicode.Scalar>) { self.init(String.UnicodeScalarView(scalars)) }
}

/// Cleans captions before they are split into words.
enum TextCleaner {
  /// Returns the caption repaired, with HTML references replaced, single spaces between words, and in lower case.
  static func clean(_ text: String) -> UnicodeScalars {
    let repaired = TextRepair.repair(UnicodeScalars(text.unicodeScalars))
    // Twice, because captions from the web are often escaped twice.
    let unescaped = HTMLReferences.unescape(HTMLReferences.unescape(repaired))
    return lowercased(collapsed(unescaped))
  }

  /// Replaces each run of whitespace by one space and removes whitespace at both ends.
  private static func collapsed(_ text: UnicodeScalars) -> UnicodeScalars {
    UnicodeScalars(text.split(whereSeparator: isSpace).joined(separator: CollectionOfOne(" ")))
  }

  /// Applies full lower-casing: one character may become several, and Σ at the end of a word becomes ς.
  private static func lowercased(_ text: UnicodeScalars) -> UnicodeScalars {
    var result = UnicodeScalars()
    result.reserveCapacity(text.count)
    for (at, scalar) in text.enumerated() {
      if scalar.isASCII {
        result.append(("A"..."Z").contains(scalar) ? Unicode.Scalar(UInt8(scalar.value) + 32) : scalar)
      } else if scalar == "\u{3A3}" {
        result.append(endsWord(text, at) ? "\u{3C2}" : "\u{3C3}")
      } else {
        result.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
      }
    }
    return result
  }

  /// Returns whether a cased letter comes before the character at `at` and none after it, but for case-ignorable ones.
  private static func endsWord(_ text: UnicodeScalars, _ at: Int) -> Bool {
    let before = text[..<at].last { !$0.properties.isCaseIgnorable }
    let after = text[(at + 1)...].first { !$0.properties.isCaseIgnorable }
    return before?.properties.isCased == true && after?.properties.isCased != true
  }

  /// Returns whether Python's `str.split` would split here: at whitespace and the four information separators.
  private static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x20, 0x9...0xD, 0x1C...0x1F: true
    case ..<0x85: false
    default: scalar.properties.isWhitespace
    }
  }
}

/// Splits clean text as CLIP does into the words within which byte pairs are merged.
///
/// At each position the first of these that matches is a piece, where case is ignored: a special token, a contraction
/// (`'s 't 're 've 'm 'll 'd`), a run of letters, one number character, or a run of other characters but spaces.
enum WordSplitter {
  enum Piece {
    case start, end
    case word(ArraySlice<Unicode.Scalar>)
  }

  private enum Kind { case letter, number, space, other, dropped }

  private static let specials: [(UnicodeScalars, Piece)] = [
    (UnicodeScalars("<start_of_text>".unicodeScalars), .start), (UnicodeScalars("<end_of_text>".unicodeScalars), .end),
  ]
  private static let contractions = ["s", "t", "re", "ve", "m", "ll", "d"].map { UnicodeScalars($0.unicodeScalars) }

  /// Calls `body` with each piece of the text in order.
  static func pieces(of text: UnicodeScalars, body: (Piece) -> Void) {
    var at = 0
    while at < text.count {
      var end = at + 1
      defer { at = end }
      if text[at] == "<", let (special, after) = special(in: text, at: at) {
        end = after
        body(special)
        continue
      }
      if text[at] == "'", let letters = contractions.first(where: { matches(text, end, $0) }) {
        end += letters.count
        body(.word(text[at..<end]))
        continue
      }
      let kind = kind(of: text[at])
      if kind == .letter || kind == .other {
        while end < text.count, self.kind(of: text[end]) == kind { end += 1 }
      }
      if kind != .space, kind != .dropped { body(.word(text[at..<end])) }
    }
  }

  /// Returns the word in UTF-8.
  static func bytes(of word: ArraySlice<Unicode.Scalar>) -> [UInt8] {
    word.flatMap { Unicode.UTF8.encode($0) ?? Unicode.UTF8.encodedReplacementCharacter }
  }

  /// Returns the special token at `at`, if there is one, and the index after it.
  private static func special(in text: UnicodeScalars, at: Int) -> (Piece, Int)? {
    for (letters, piece) in specials where matches(text, at, letters) {
      let end = at + letters.count
      // If it is written with a long s it is still one piece, but a word and not the special token.
      return (text[at..<end].elementsEqual(letters) ? piece : .word(text[at..<end]), end)
    }
    return nil
  }

  /// Returns whether the lower-case `letters` occur at `at`. A long s matches s, as it does where case is ignored.
  private static func matches(_ text: UnicodeScalars, _ at: Int, _ letters: UnicodeScalars) -> Bool {
    guard at + letters.count <= text.count else { return false }
    return letters.indices.allSatisfy {
      text[at + $0] == letters[$0] || (text[at + $0] == "\u{17F}" && letters[$0] == "s")
    }
  }

  private static func kind(of scalar: Unicode.Scalar) -> Kind {
    switch scalar.value {
    case 0x61...0x7A, 0x41...0x5A: return .letter
    case 0x30...0x39: return .number
    case 0x20, 0x9...0xD: return .space
    case ..<0x80: return .other
    // The only character that CLIP's regular expression skips: a mark whose upper case is a letter.
    case 0x345: return .dropped
    default: break
    }
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: return .letter
    case .decimalNumber, .letterNumber, .otherNumber: return .number
    default: return scalar.properties.isWhitespace ? .space : .other
    }
  }
}
