/// The text that is split into words: a caption repaired, unescaped, with single spaces, in lower case.
enum TextCleaner {
  typealias Scalars = [Unicode.Scalar]

  static func clean(_ text: String) -> Scalars {
    let repaired = TextRepair.repair(Scalars(text.unicodeScalars))
    // Twice, since captions of the web are often escaped twice.
    let unescaped = HTMLReferences.unescape(HTMLReferences.unescape(repaired))
    return lowercased(collapsed(unescaped))
  }

  /// Runs of whitespace become one space; none is left at the ends.
  private static func collapsed(_ text: Scalars) -> Scalars {
    var result = Scalars()
    result.reserveCapacity(text.count)
    var owesSpace = false
    for scalar in text {
      if isSpace(scalar) {
        owesSpace = !result.isEmpty
      } else {
        if owesSpace { result.append(" ") }
        owesSpace = false
        result.append(scalar)
      }
    }
    return result
  }

  /// Full lower-casing: one character may become several, and Σ at the end of a word becomes ς.
  private static func lowercased(_ text: Scalars) -> Scalars {
    var result = Scalars()
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

  /// Whether a cased letter comes before the character at `at` and none after it, case-ignorable ones left out.
  private static func endsWord(_ text: Scalars, _ at: Int) -> Bool {
    let before = text[..<at].last { !$0.properties.isCaseIgnorable }
    let after = text[(at + 1)...].first { !$0.properties.isCaseIgnorable }
    return before?.properties.isCased == true && after?.properties.isCased != true
  }

  /// Whitespace as Python's `str.split` has it: the Unicode property and the four information separators.
  private static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x20, 0x9...0xD, 0x1C...0x1F: true
    case ..<0x85: false
    default: scalar.properties.isWhitespace
    }
  }
}
