/// CLIP's split of clean text into the words that byte pairs are merged in.
///
/// In this order at every place: a special token, a contraction (`'s 't 're 've 'm 'll 'd`), a run of letters, one
/// digit (any number character), a run of what is neither letter, digit nor space. Case does not count.
enum WordSplitter {
  typealias Scalars = [Unicode.Scalar]

  enum Piece {
    case start
    case end
    case word(ArraySlice<Unicode.Scalar>)
  }

  private enum Kind { case letter, number, space, other, dropped }

  private static let specials: [(Scalars, Piece)] = [
    (Scalars("<start_of_text>".unicodeScalars), .start), (Scalars("<end_of_text>".unicodeScalars), .end),
  ]

  private static let contractions = ["s", "t", "re", "ve", "m", "ll", "d"].map { Scalars($0.unicodeScalars) }

  static func pieces(of text: Scalars, body: (Piece) -> Void) {
    var at = 0
    while at < text.count {
      if text[at] == "<", let (special, end) = special(in: text, at: at) {
        body(special)
        at = end
        continue
      }
      if text[at] == "'", let letters = contractions.first(where: { matches(text, at + 1, $0) }) {
        body(.word(text[at..<at + 1 + letters.count]))
        at += 1 + letters.count
        continue
      }
      let kind = kind(of: text[at])
      var end = at + 1
      if kind == .letter || kind == .other {
        while end < text.count, self.kind(of: text[end]) == kind { end += 1 }
      }
      if kind != .space, kind != .dropped { body(.word(text[at..<end])) }
      at = end
    }
  }

  /// A word's UTF-8.
  static func bytes(of word: ArraySlice<Unicode.Scalar>) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(word.count)
    for scalar in word {
      bytes.append(contentsOf: Unicode.UTF8.encode(scalar) ?? Unicode.UTF8.encodedReplacementCharacter)
    }
    return bytes
  }

  private static func special(in text: Scalars, at: Int) -> (Piece, Int)? {
    for (letters, piece) in specials where matches(text, at, letters) {
      let end = at + letters.count
      // Written with a long s it is still one word, but not the special token itself.
      return (text[at..<end].elementsEqual(letters) ? piece : .word(text[at..<end]), end)
    }
    return nil
  }

  /// Whether `letters` (in lower case) stand at `at`; the long s is an s to whom case does not count.
  private static func matches(_ text: Scalars, _ at: Int, _ letters: Scalars) -> Bool {
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
    // The one character that the expression of CLIP passes over: a mark whose other case is a letter.
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
