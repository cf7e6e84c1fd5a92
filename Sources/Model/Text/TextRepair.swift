import Foundation

/// Repairs captions by tables and normalisation, in the order of ftfy 6.3.
///
/// Each pass handles closed HTML references, C1 controls, Latin ligatures, character width, curly quotes, line breaks,
/// terminal escapes, control characters and canonical composition; passes are repeated until nothing changes. Text that
/// was decoded in the wrong encoding ("mojibake", `schÃ¶n` for `schön`) is not repaired: that takes statistics of many
/// encodings, and a dataset is better repaired once, before it is imported.
enum TextRepair {
  /// The most passes over a text, each of which removes one level of `&amp;amp;…`. Ordinary captions need three.
  private static let passLimit = 64

  static func repair(_ text: UnicodeScalars) -> UnicodeScalars {
    if text.allSatisfy({ isPlain($0) }) { return text }
    guard let markup = text.firstIndex(of: "<") else { return repeatPasses(text, unescape: true) }
    // A literal `<` marks HTML source, in which references are kept, from the beginning of its line on.
    let line = text[..<markup].lastIndex(of: "\n").map { $0 + 1 } ?? 0
    return repeatPasses(UnicodeScalars(text[..<line]), unescape: true)
      + repeatPasses(UnicodeScalars(text[line...]), unescape: false)
  }

  /// Returns whether no pass would change the character, alone or among others of this kind.
  private static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
    (scalar >= " " && scalar < "\u{7F}" && scalar != "&") || scalar == "\n" || scalar == "\t"
      || (scalar >= "\u{A0}" && scalar < "\u{132}")
  }

  /// Repairs the text in passes until nothing changes.
  private static func repeatPasses(_ text: UnicodeScalars, unescape: Bool) -> UnicodeScalars {
    var text = text
    for _ in 0..<passLimit {
      let unescaped = unescape ? HTMLReferences.unescapeClosed(text) : text
      var next = removingTerminalEscapes(from: replacingCharacters(in: unescaped))
      next.removeAll(where: isUnwanted)
      next = composed(next)
      if next == text { break }
      text = next
    }
    return text
  }

  /// Replaces C1 controls, ligatures, widths, quotes and line breaks, character by character.
  private static func replacingCharacters(in text: UnicodeScalars) -> UnicodeScalars {
    guard text.contains(where: { $0.value >= 0x80 || $0 == "\r" }) else { return text }
    var result = UnicodeScalars()
    result.reserveCapacity(text.count)
    for (at, scalar) in text.enumerated() {
      switch scalar {
      case "\n" where at > 0 && text[at - 1] == "\r": break
      case "\r": result.append("\n")
      case "\u{80}"..."\u{9F}": result.append(straight(CharacterTables.windows1252[Int(scalar.value) - 0x80]))
      default:
        if let letters = CharacterTables.ligatures[scalar] {
          result += letters.unicodeScalars.map(straight)
        } else if let normal = CharacterTables.normalWidth(scalar) {
          result += normal
        } else {
          result.append(straight(scalar))
        }
      }
    }
    return result
  }

  /// Returns a straight quote for a curly one, and a line feed for a line or paragraph separator.
  private static func straight(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
    switch scalar.value {
    case 0x2BC, 0x2018...0x201B: "'"
    case 0x201C...0x201F: "\""
    case 0x2028, 0x2029: "\n"
    default: scalar
    }
  }

  /// Removes the escapes for colours and cursor movements of terminals: escape, `[`, digits and semicolons, one letter.
  private static func removingTerminalEscapes(from text: UnicodeScalars) -> UnicodeScalars {
    guard text.contains("\u{1B}") else { return text }
    let escape = /\u{1B}\[[;\p{Nd}]*[a-zA-Z]/.matchingSemantics(.unicodeScalar)
    return UnicodeScalars(String(scalars: text).replacing(escape, with: "").unicodeScalars)
  }

  /// Returns whether the character is an invisible control character. Joiners and direction marks are kept.
  private static func isUnwanted(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0...8, 0xB, 0xE...0x1F, 0x7F, 0x206A...0x206F, 0xFEFF, 0xFFF9...0xFFFC: true
    default: false
    }
  }

  /// Returns the canonical composition (NFC) of Foundation, with its two errors in Hangul on Linux corrected.
  private static func composed(_ text: UnicodeScalars) -> UnicodeScalars {
    guard text.contains(where: { $0.value >= 0x300 }) else { return text }
    // Foundation treats U+11A7, which precedes the first final consonant, as an empty final consonant. It composes with
    // nothing, so the texts before and after it can be composed separately.
    let parts = text.split(separator: "\u{11A7}", omittingEmptySubsequences: false).map { part in
      composingHangul(UnicodeScalars(String(scalars: part).precomposedStringWithCanonicalMapping.unicodeScalars))
    }
    return UnicodeScalars(parts.joined(separator: CollectionOfOne("\u{11A7}")))
  }

  /// Composes a Hangul syllable of two letters with the final consonant that follows it. Foundation composes three
  /// single letters, but leaves this form as it is.
  private static func composingHangul(_ text: UnicodeScalars) -> UnicodeScalars {
    text.reduce(into: []) { result, scalar in
      if 0x11A8...0x11C2 ~= scalar.value, let last = result.last, 0xAC00...0xD7A3 ~= last.value,
        (last.value - 0xAC00) % 28 == 0, let syllable = Unicode.Scalar(last.value + scalar.value - 0x11A7)
      {
        result[result.count - 1] = syllable
      } else {
        result.append(scalar)
      }
    }
  }
}

/// Tables of characters that the cleaning of text needs.
enum CharacterTables {
  /// The characters of Windows-1252 at bytes 0x80 to 0x9F. Its five undefined bytes map to themselves.
  static let windows1252 = UnicodeScalars("€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8D}Ž\u{8F}\u{90}‘’“”•–—˜™š›œ\u{9D}žŸ".unicodeScalars)

  /// The normal-width forms of U+FF5F to U+FFEF, in order; a character without one maps to itself. `normalWidth`
  /// handles U+FFE3 separately, because its form has two scalars.
  private static let normalWidths = UnicodeScalars(
    """
    ⦅⦆。「」、・ヲァィゥェォャュョッーアイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワン\
    \u{3099}\u{309A}\u{1160}\u{1100}\u{1101}\u{11AA}\u{1102}\u{11AC}\u{11AD}\u{1103}\u{1104}\u{1105}\u{11B0}\u{11B1}\
    \u{11B2}\u{11B3}\u{11B4}\u{11B5}\u{111A}\u{1106}\u{1107}\u{1108}\u{1121}\u{1109}\u{110A}\u{110B}\u{110C}\u{110D}\
    \u{110E}\u{110F}\u{1110}\u{1111}\u{1112}\u{FFBF}\u{FFC0}\u{FFC1}\u{1161}\u{1162}\u{1163}\u{1164}\u{1165}\u{1166}\
    \u{FFC8}\u{FFC9}\u{1167}\u{1168}\u{1169}\u{116A}\u{116B}\u{116C}\u{FFD0}\u{FFD1}\u{116D}\u{116E}\u{116F}\u{1170}\
    \u{1171}\u{1172}\u{FFD8}\u{FFD9}\u{1173}\u{1174}\u{1175}\u{FFDD}\u{FFDE}\u{FFDF}\u{A2}\u{A3}\u{AC}\u{FFE3}\u{A6}\
    \u{A5}\u{20A9}\u{FFE7}\u{2502}\u{2190}\u{2191}\u{2192}\u{2193}\u{25A0}\u{25CB}\u{FFEF}
    """.unicodeScalars)

  /// Returns the normal-width form of a fullwidth or halfwidth character, or nil for any other.
  static func normalWidth(_ scalar: Unicode.Scalar) -> UnicodeScalars? {
    switch scalar.value {
    case 0x3000: [" "]
    case 0xFF01...0xFF5E: Unicode.Scalar(scalar.value - 0xFEE0).map { [$0] }
    case 0xFFE3: [" ", "\u{304}"]
    case 0xFF5F...0xFFEF: [normalWidths[Int(scalar.value) - 0xFF5F]]
    default: nil
    }
  }

  /// The letters of Latin ligatures and digraphs.
  static let ligatures: [Unicode.Scalar: String] = [
    "\u{132}": "IJ", "\u{133}": "ij", "\u{149}": "\u{2BC}n", "\u{1C4}": "D\u{17D}", "\u{1C5}": "D\u{17E}",
    "\u{1C6}": "d\u{17E}", "\u{1C7}": "LJ", "\u{1C8}": "Lj", "\u{1C9}": "lj", "\u{1CA}": "NJ", "\u{1CB}": "Nj",
    "\u{1CC}": "nj", "\u{1F1}": "DZ", "\u{1F2}": "Dz", "\u{1F3}": "dz", "\u{FB00}": "ff", "\u{FB01}": "fi",
    "\u{FB02}": "fl", "\u{FB03}": "ffi", "\u{FB04}": "ffl", "\u{FB05}": "\u{17F}t", "\u{FB06}": "st",
  ]
}
