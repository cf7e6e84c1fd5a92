import Foundation

/// Repairs captions by tables and normalisation, in the order of ftfy 6.3.
///
/// Each pass handles closed HTML references, C1 controls, Latin ligatures, character width, curly quotes, line breaks,
/// terminal escapes, control characters and canonical composition; passes are repeated until nothing changes. Text that
/// was decoded in the wrong encoding ("mojibake", `schÃ¶n` for `schön`) is not repaired: that takes statistics of many
/// encodings, and a dataset is better repaired once, before it is imported.
enum TextRepair {
  /// The maximum number of passes over a text. A pass removes one level of `&amp;amp;…`, so this bounds the time for a
  /// hostile caption; ordinary ones need at most three.
  private static let passLimit = 64

  /// Returns the repaired text.
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
      var next = unescape ? HTMLReferences.unescapeClosed(text) : text
      next = replacingCharacters(in: next)
      next = removingTerminalEscapes(from: next)
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
        if let letters = CharacterTables.ligature(scalar) {
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

  /// Returns a straight quote for a curly one, a line feed for a line or paragraph separator, and any other character
  /// unchanged.
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
    var result = UnicodeScalars()
    var at = 0
    while at < text.count {
      var end = at + 2
      if text[at] == "\u{1B}", at + 1 < text.count, text[at + 1] == "[" {
        while end < text.count, text[end] == ";" || text[end].properties.generalCategory == .decimalNumber { end += 1 }
        if end < text.count, ("a"..."z").contains(text[end]) || ("A"..."Z").contains(text[end]) {
          at = end + 1
          continue
        }
      }
      result.append(text[at])
      at += 1
    }
    return result
  }

  /// Returns whether the character is an invisible control character. Joiners and direction marks are kept.
  private static func isUnwanted(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0...8, 0xB, 0xE...0x1F, 0x7F, 0x206A...0x206F, 0xFEFF, 0xFFF9...0xFFFC: true
    default: false
    }
  }

  /// Returns the canonical composition (NFC). Foundation's is used, and its two errors in Hangul on Linux are
  /// corrected.
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
    guard text.contains(where: { (0x11A8...0x11C2).contains($0.value) }) else { return text }
    var result = UnicodeScalars()
    for scalar in text {
      if (0x11A8...0x11C2).contains(scalar.value), let last = result.last, (0xAC00...0xD7A3).contains(last.value),
        (last.value - 0xAC00) % 28 == 0, let syllable = Unicode.Scalar(last.value + scalar.value - 0x11A7)
      {
        result[result.count - 1] = syllable
      } else {
        result.append(scalar)
      }
    }
    return result
  }
}

/// Tables of characters that the cleaning of text needs.
enum CharacterTables {
  /// The characters of Windows-1252 at bytes 0x80 to 0x9F. Its five undefined bytes map to themselves.
  static let windows1252 = scalars(
    """
    \u{20AC}\u{81}\u{201A}\u{192}\u{201E}\u{2026}\u{2020}\u{2021}\u{2C6}\u{2030}\u{160}\u{2039}\
    \u{152}\u{8D}\u{17D}\u{8F}\u{90}\u{2018}\u{2019}\u{201C}\u{201D}\u{2022}\u{2013}\u{2014}\
    \u{2DC}\u{2122}\u{161}\u{203A}\u{153}\u{9D}\u{17E}\u{178}
    """)

  /// The normal-width forms of U+FF5F to U+FFEF, in order; a character without one maps to itself. `normalWidth`
  /// handles U+FFE3 separately, because its form has two scalars.
  private static let normalWidths = scalars(
    """
    \u{2985}\u{2986}\u{3002}\u{300C}\u{300D}\u{3001}\u{30FB}\u{30F2}\u{30A1}\u{30A3}\u{30A5}\u{30A7}\
    \u{30A9}\u{30E3}\u{30E5}\u{30E7}\u{30C3}\u{30FC}\u{30A2}\u{30A4}\u{30A6}\u{30A8}\u{30AA}\u{30AB}\
    \u{30AD}\u{30AF}\u{30B1}\u{30B3}\u{30B5}\u{30B7}\u{30B9}\u{30BB}\u{30BD}\u{30BF}\u{30C1}\u{30C4}\
    \u{30C6}\u{30C8}\u{30CA}\u{30CB}\u{30CC}\u{30CD}\u{30CE}\u{30CF}\u{30D2}\u{30D5}\u{30D8}\u{30DB}\
    \u{30DE}\u{30DF}\u{30E0}\u{30E1}\u{30E2}\u{30E4}\u{30E6}\u{30E8}\u{30E9}\u{30EA}\u{30EB}\u{30EC}\
    \u{30ED}\u{30EF}\u{30F3}\u{3099}\u{309A}\u{1160}\u{1100}\u{1101}\u{11AA}\u{1102}\u{11AC}\u{11AD}\
    \u{1103}\u{1104}\u{1105}\u{11B0}\u{11B1}\u{11B2}\u{11B3}\u{11B4}\u{11B5}\u{111A}\u{1106}\u{1107}\
    \u{1108}\u{1121}\u{1109}\u{110A}\u{110B}\u{110C}\u{110D}\u{110E}\u{110F}\u{1110}\u{1111}\u{1112}\
    \u{FFBF}\u{FFC0}\u{FFC1}\u{1161}\u{1162}\u{1163}\u{1164}\u{1165}\u{1166}\u{FFC8}\u{FFC9}\u{1167}\
    \u{1168}\u{1169}\u{116A}\u{116B}\u{116C}\u{FFD0}\u{FFD1}\u{116D}\u{116E}\u{116F}\u{1170}\u{1171}\
    \u{1172}\u{FFD8}\u{FFD9}\u{1173}\u{1174}\u{1175}\u{FFDD}\u{FFDE}\u{FFDF}\u{A2}\u{A3}\u{AC}\
    \u{FFE3}\u{A6}\u{A5}\u{20A9}\u{FFE7}\u{2502}\u{2190}\u{2191}\u{2192}\u{2193}\u{25A0}\u{25CB}\
    \u{FFEF}
    """)

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

  /// Returns the letters of a Latin ligature or digraph, or nil for any other character.
  static func ligature(_ scalar: Unicode.Scalar) -> String? {
    switch scalar.value {
    case 0x132: "IJ"
    case 0x133: "ij"
    case 0x149: "\u{2BC}n"
    case 0x1C4: "D\u{17D}"
    case 0x1C5: "D\u{17E}"
    case 0x1C6: "d\u{17E}"
    case 0x1C7: "LJ"
    case 0x1C8: "Lj"
    case 0x1C9: "lj"
    case 0x1CA: "NJ"
    case 0x1CB: "Nj"
    case 0x1CC: "nj"
    case 0x1F1: "DZ"
    case 0x1F2: "Dz"
    case 0x1F3: "dz"
    case 0xFB00: "ff"
    case 0xFB01: "fi"
    case 0xFB02: "fl"
    case 0xFB03: "ffi"
    case 0xFB04: "ffl"
    case 0xFB05: "\u{17F}t"
    case 0xFB06: "st"
    default: nil
    }
  }

  private static func scalars(_ text: String) -> UnicodeScalars { Array(text.unicodeScalars) }
}
