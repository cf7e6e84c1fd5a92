import Foundation

/// What can be put right in a caption by a table or a normalisation, in the order in which ftfy 6.3 does it.
///
/// Closed HTML references, C1 controls, Latin ligatures, character width, curly quotes, line breaks, terminal escapes,
/// control characters, canonical composition; again and again until nothing changes. Text that was decoded in the
/// wrong encoding ("mojibake", `schÃ¶n` for `schön`) is not repaired: that needs statistics of many encodings, and a
/// corpus is better repaired once, before it is imported.
enum TextRepair {
  typealias Scalars = [Unicode.Scalar]

  /// Passes over one text at most. A pass peels one level of `&amp;amp;…`, so this bounds the time that a hostile
  /// caption can take; no honest one needs more than three.
  private static let passLimit = 64

  static func repair(_ text: Scalars) -> Scalars {
    if text.allSatisfy({ isPlain($0) }) { return text }
    guard let markup = text.firstIndex(of: "<") else { return settle(text, unescape: true) }
    // A literal `<` says that this is HTML source, in which references mean themselves, from its line on.
    let line = text[..<markup].lastIndex(of: "\n").map { $0 + 1 } ?? 0
    return settle(Scalars(text[..<line]), unescape: true) + settle(Scalars(text[line...]), unescape: false)
  }

  /// Characters that no pass touches, alone or together.
  private static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
    (scalar >= " " && scalar < "\u{7F}" && scalar != "&") || scalar == "\n" || scalar == "\t"
      || (scalar >= "\u{A0}" && scalar < "\u{132}")
  }

  private static func settle(_ text: Scalars, unescape: Bool) -> Scalars {
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

  /// C1 controls, ligatures, width, quotes and line breaks, each after the other for every character.
  private static func replacingCharacters(in text: Scalars) -> Scalars {
    guard text.contains(where: { $0.value >= 0x80 || $0 == "\r" }) else { return text }
    var result = Scalars()
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

  /// Straight quotes for curly ones, a line feed for the separators of lines and paragraphs.
  private static func straight(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
    switch scalar.value {
    case 0x2BC, 0x2018...0x201B: "'"
    case 0x201C...0x201F: "\""
    case 0x2028, 0x2029: "\n"
    default: scalar
    }
  }

  /// Colours and cursor movements of terminals: escape, `[`, digits and semicolons, one letter.
  private static func removingTerminalEscapes(from text: Scalars) -> Scalars {
    guard text.contains("\u{1B}") else { return text }
    var result = Scalars()
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

  /// Control characters that show nothing; joiners and direction marks stay.
  private static func isUnwanted(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0...8, 0xB, 0xE...0x1F, 0x7F, 0x206A...0x206F, 0xFEFF, 0xFFF9...0xFFFC: true
    default: false
    }
  }

  /// Canonical composition (NFC): Foundation's, with its two errors in Hangul on Linux set right.
  private static func composed(_ text: Scalars) -> Scalars {
    guard text.contains(where: { $0.value >= 0x300 }) else { return text }
    // Foundation takes the vowel U+11A7, next to the first final consonant, for an empty one. It composes with
    // nothing, so what lies before and after it can be composed apart.
    let parts = text.split(separator: "\u{11A7}", omittingEmptySubsequences: false).map { part in
      var view = String.UnicodeScalarView()
      view.append(contentsOf: part)
      return composingHangul(Scalars(String(view).precomposedStringWithCanonicalMapping.unicodeScalars))
    }
    return Scalars(parts.joined(separator: CollectionOfOne("\u{11A7}")))
  }

  /// A Hangul syllable of two letters and a final consonant that follows it, made one: Foundation composes three
  /// single letters but leaves this form.
  private static func composingHangul(_ text: Scalars) -> Scalars {
    guard text.contains(where: { (0x11A8...0x11C2).contains($0.value) }) else { return text }
    var result = Scalars()
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
