/// Character references of HTML (`&amp;`, `&#233;`, `&copy 2020`) turned into what they stand for.
enum HTMLReferences {
  typealias Scalars = [Unicode.Scalar]

  /// Every reference replaced as Python's `html.unescape` does: a semicolon may be missing, and of an unknown name the
  /// longest known beginning counts (`&notit` is `¬it`).
  static func unescape(_ text: Scalars) -> Scalars {
    replacingReferences(in: text) { at in
      let next = at + 1
      guard next < text.count else { return nil }
      if text[next] == "#", let (value, end) = numeric(in: text, after: next) { return (value, end) }
      var end = next
      while end < text.count, end - next < 32, !stopsName(text[end]) { end += 1 }
      if end == next { return nil }
      if end < text.count, text[end] == ";", let value = names.closed[name(text[next..<end])] {
        return (value, end + 1)
      }
      var length = min(end - next, names.longestOpen)
      while length > 1 {
        if let value = names.open[name(text[next..<next + length])] { return (value, next + length) }
        length -= 1
      }
      return nil
    }
  }

  /// Only references that are beyond doubt: closed by a semicolon; also names in capitals (`&EACUTE;`), as found in
  /// text that was upper-cased after it was escaped.
  static func unescapeClosed(_ text: Scalars) -> Scalars {
    replacingReferences(in: text) { at in
      var next = at + 1
      let isNumeric = next < text.count && text[next] == "#"
      if isNumeric { next += 1 }
      var end = next
      while end < text.count, end - next <= 24, isASCIIAlphanumeric(text[end]) { end += 1 }
      guard end > next, end - next <= 24, end < text.count, text[end] == ";" else { return nil }
      if isNumeric {
        // A semicolon that comes out means that the reference was read in part only: then it stays as it is.
        guard let (value, after) = numeric(in: text, after: at + 1), after == end + 1, !value.contains(";") else {
          return (Scalars(text[at...end]), end + 1)
        }
        return (value, end + 1)
      }
      let key = name(text[next..<end])
      return (names.closed[key] ?? names.capitals[key] ?? Scalars(text[at...end]), end + 1)
    }
  }

  /// `text` with each `&` for which `reference` finds a value and an end replaced; what was put in is not read again.
  private static func replacingReferences(
    in text: Scalars, reference: (Int) -> (value: Scalars, end: Int)?
  ) -> Scalars {
    guard text.contains("&") else { return text }
    var result = Scalars()
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

  /// The value of a numeric reference whose `#` stands at `hash`, and the index after it.
  private static func numeric(in text: Scalars, after hash: Int) -> (Scalars, Int)? {
    var at = hash + 1
    var radix: UInt32 = 10
    if at < text.count, text[at] == "x" || text[at] == "X" {
      radix = 16
      at += 1
    }
    let first = at
    var value: UInt32 = 0
    while at < text.count, let digit = hexDigit(text[at]), digit < radix {
      value = min(value &* radix &+ digit, 0x11_0000)  // saturates: anything beyond Unicode is one and the same error
      at += 1
    }
    if at == first { return nil }
    if at < text.count, text[at] == ";" { at += 1 }
    return (meaning(of: value), at)
  }

  /// What the HTML standard makes of a code point: Windows-1252 for the C1 controls, nothing for other controls and
  /// for noncharacters, U+FFFD for what is no character.
  private static func meaning(of value: UInt32) -> Scalars {
    switch value {
    case 0, 0xD800...0xDFFF, 0x11_0000...: ["\u{FFFD}"]
    case 0x80...0x9F: [CharacterTables.windows1252[Int(value) - 0x80]]
    case 1...8, 0xB, 0xE...0x1F, 0x7F, 0xFDD0...0xFDEF: []
    default: value & 0xFFFE == 0xFFFE ? [] : Scalars(Unicode.Scalar(value).map { [$0] } ?? [])
    }
  }

  private static func name(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars)
    return String(view)
  }

  private static func stopsName(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar {
    case "\t", "\n", "\u{C}", " ", "<", "&", "#", ";": true
    default: false
    }
  }

  private static func isASCIIAlphanumeric(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar {
    case "0"..."9", "a"..."z", "A"..."Z": true
    default: false
    }
  }

  private static func hexDigit(_ scalar: Unicode.Scalar) -> UInt32? {
    switch scalar {
    case "0"..."9": scalar.value - 0x30
    case "a"..."f": scalar.value - 0x61 + 10
    case "A"..."F": scalar.value - 0x41 + 10
    default: nil
    }
  }

  private struct Names {
    /// By name without its semicolon: references that have one, those that may lack it, and names in capitals.
    var closed: [String: Scalars] = [:]
    var open: [String: Scalars] = [:]
    var capitals: [String: Scalars] = [:]
    var longestOpen = 0
  }

  private static let names: Names = {
    var names = Names()
    for entry in htmlEntityTable.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
      guard let mark = entry.firstIndex(where: { $0 == ":" || $0 == "*" }) else { continue }
      let name = String(entry[..<mark])
      let value = entry[entry.index(after: mark)...].split(separator: "+")
        .compactMap { UInt32($0, radix: 16).flatMap(Unicode.Scalar.init) }
      names.closed[name] = value
      if entry[mark] == "*" {
        names.open[name] = value
        names.longestOpen = max(names.longestOpen, name.utf8.count)
      }
    }
    // A name in capitals counts where HTML gives it no meaning of its own, not even to its beginning.
    for (name, value) in names.closed where name == name.lowercased() {
      let capitals = name.uppercased()
      if names.closed[capitals] != nil { continue }
      if (2...max(2, capitals.count)).contains(where: { names.open[String(capitals.prefix($0))] != nil }) { continue }
      names.capitals[capitals] = value.flatMap { Scalars($0.properties.uppercaseMapping.unicodeScalars) }
    }
    return names
  }()
}
