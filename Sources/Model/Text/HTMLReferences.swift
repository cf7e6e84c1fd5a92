/// Replaces character references of HTML (`&amp;`, `&#233;`, `&copy 2020`) by the characters that they stand for.
enum HTMLReferences {
  /// Replaces every reference as Python's `html.unescape` does: a semicolon may be missing, and an unknown name counts
  /// as its longest known prefix (`&notit` is `¬it`).
  static func unescape(_ text: UnicodeScalars) -> UnicodeScalars {
    replacingReferences(in: text) { at in
      let next = at + 1
      if next < text.count, text[next] == "#", let (value, end) = numeric(in: text, after: next) { return (value, end) }
      var end = next
      while end < text.count, end - next < 32, !"\t\n\u{C} <&#;".unicodeScalars.contains(text[end]) { end += 1 }
      if end == next { return nil }
      if end < text.count, text[end] == ";", let value = names.closed[String(scalars: text[next..<end])] {
        return (value, end + 1)
      }
      for end in stride(from: end, to: next + 1, by: -1) {
        if let value = names.open[String(scalars: text[next..<end])] { return (value, end) }
      }
      return nil
    }
  }

  /// Replaces only unambiguous references, which a semicolon closes. Names in capitals (`&EACUTE;`) are included,
  /// because they occur in text that was converted to upper case after it was escaped.
  static func unescapeClosed(_ text: UnicodeScalars) -> UnicodeScalars {
    replacingReferences(in: text) { at in
      let isNumeric = at + 1 < text.count && text[at + 1] == "#"
      let next = at + (isNumeric ? 2 : 1)
      var end = next
      while end < text.count, end - next <= 24, isASCIIAlphanumeric(text[end]) { end += 1 }
      guard end > next, end - next <= 24, end < text.count, text[end] == ";" else { return nil }
      if isNumeric {
        // A semicolon in the value means that only part of the reference was read; then it is kept as it is.
        guard let (value, after) = numeric(in: text, after: at + 1), after == end + 1, !value.contains(";") else {
          return (UnicodeScalars(text[at...end]), end + 1)
        }
        return (value, end + 1)
      }
      let key = String(scalars: text[next..<end])
      return (names.closed[key] ?? names.capitals[key] ?? UnicodeScalars(text[at...end]), end + 1)
    }
  }

  /// Returns a regular expression of what follows the `&` in a reference to a character: its names, and the numbers
  /// that stand for it, its own and `numbers`.
  static func pattern(of scalar: Unicode.Scalar, _ numbers: [UInt32] = []) -> String {
    let digits = ([scalar.value] + numbers).flatMap { number in
      ["#0*\(number)(?![0-9]);?", "#[xX]0*(?i:\(String(number, radix: 16)))(?![0-9a-fA-F]);?"]
    }
    return "(?:\(((namesOfCharacters[scalar] ?? []) + digits).joined(separator: "|")))"
  }

  /// The names of each character, with the semicolon that ends them, which some may lack.
  private static let namesOfCharacters: [Unicode.Scalar: [String]] = {
    var found: [Unicode.Scalar: [String]] = [:]
    for (name, value) in names.closed.merging(names.capitals, uniquingKeysWith: { first, _ in first })
    where value.count == 1 {
      found[value[0], default: []].append(name + (names.open[name] == nil ? ";" : ";?"))
    }
    return found.mapValues { $0.sorted() }
  }()

  /// Replaces each reference, but not those in values. For the index of an `&`, `reference` returns the value and the
  /// index after the reference, or nil if there is none.
  private static func replacingReferences(
    in text: UnicodeScalars, reference: (Int) -> (value: UnicodeScalars, end: Int)?
  ) -> UnicodeScalars {
    guard text.contains("&") else { return text }
    var result = UnicodeScalars()
    result.reserveCapacity(text.count)
    var at = 0
    while at < text.count {
      if text[at] == "&", let (value, end) = reference(at) {
        result += value
        at = end
      } else {
        result.append(text[at])
        at += 1
      }
    }
    return result
  }

  /// Returns the value of the numeric reference whose `#` is at `hash`, and the index after the reference.
  private static func numeric(in text: UnicodeScalars, after hash: Int) -> (UnicodeScalars, Int)? {
    let isHexadecimal = hash + 1 < text.count && (text[hash + 1] == "x" || text[hash + 1] == "X")
    let radix = isHexadecimal ? 16 : 10
    let first = hash + (isHexadecimal ? 2 : 1)
    var at = first
    var value: UInt32 = 0
    while at < text.count, let digit = UInt32(String(text[at]), radix: radix) {
      // It saturates, because all values beyond Unicode are equally wrong.
      value = min(value * UInt32(radix) + digit, 0x11_0000)
      at += 1
    }
    if at == first { return nil }
    if at < text.count, text[at] == ";" { at += 1 }
    return (meaning(of: value), at)
  }

  /// Returns the characters that the HTML standard assigns to a code point: those of Windows-1252 for the C1 controls,
  /// none for other controls and noncharacters, and U+FFFD for an invalid code point.
  private static func meaning(of value: UInt32) -> UnicodeScalars {
    switch value {
    case 0, 0xD800...0xDFFF, 0x11_0000...: ["\u{FFFD}"]
    case 0x80...0x9F: [CharacterTables.windows1252[Int(value) - 0x80]]
    case 1...8, 0xB, 0xE...0x1F, 0x7F, 0xFDD0...0xFDEF: []
    default: value & 0xFFFE == 0xFFFE ? [] : UnicodeScalars(Unicode.Scalar(value).map { [$0] } ?? [])
    }
  }

  private static func isASCIIAlphanumeric(_ scalar: Unicode.Scalar) -> Bool {
    ("0"..."9").contains(scalar) || ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar)
  }

  private struct Names {
    /// The values by name, without a semicolon: of all references, of those that may lack it, and of names in capitals.
    var closed: [String: UnicodeScalars] = [:]
    var open: [String: UnicodeScalars] = [:]
    var capitals: [String: UnicodeScalars] = [:]
  }

  private static let names: Names = {
    var names = Names()
    var codes: [UInt32] = [0]
    for entry in htmlEntityTable.split(whereSeparator: \.isWhitespace) {
      let parts = entry.split(separator: ":")
      codes = parts.count == 2 ? parts[0].split(separator: "+").compactMap { UInt32($0, radix: 16) } : [codes[0] + 1]
      let value = codes.compactMap { Unicode.Scalar($0) }
      for marked in parts[parts.count - 1].split(separator: ",") {
        let name = String(marked.prefix { $0 != "*" })
        names.closed[name] = value
        if marked.hasSuffix("*") { names.open[name] = value }
      }
    }
    // A name in capitals is added only if HTML defines neither that name nor a prefix of it.
    for (name, value) in names.closed where name == name.lowercased() {
      let capitals = name.uppercased()
      if names.closed[capitals] != nil { continue }
      if (2...max(2, capitals.count)).contains(where: { names.open[String(capitals.prefix($0))] != nil }) { continue }
      names.capitals[capitals] = value.flatMap { UnicodeScalars($0.properties.uppercaseMapping.unicodeScalars) }
    }
    return names
  }()
}
