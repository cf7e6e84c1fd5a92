import Settings

extension RunTree {
  /// The tree as a YAML document: sections in block form, short lists in brackets; reads back as the same tree.
  var yaml: String {
    var lines: [String] = []
    write(into: &lines, indent: 0)
    return lines.joined(separator: "\n") + "\n"
  }

  private func write(into lines: inout [String], indent: Int) {
    let margin = String(repeating: "  ", count: indent)
    switch self {
    case .section(let entries):
      for entry in entries {
        let key = "\(margin)\(Self.text(entry.key, quoted: true)):"
        if let flow = entry.value.flow {
          lines.append("\(key) \(flow)")
        } else {
          lines.append(key)
          entry.value.write(into: &lines, indent: indent + 1)
        }
      }
    case .list(let values):
      for value in values {
        if let flow = value.flow {
          lines.append("\(margin)- \(flow)")
        } else {
          // The first line of the child moves up behind the dash.
          var child: [String] = []
          value.write(into: &child, indent: indent + 1)
          child[0] = "\(margin)- \(child[0].dropFirst(margin.count + 2))"
          lines += child
        }
      }
    case .scalar(let text, let quoted):
      lines.append(margin + Self.text(text, quoted: quoted))
    }
  }

  /// The value on one line, if it is a scalar, empty, or a list of scalars.
  private var flow: String? {
    switch self {
    case .scalar(let text, let quoted): return Self.text(text, quoted: quoted)
    case .section(let entries): return entries.isEmpty ? "{}" : nil
    case .list(let values):
      let scalars = values.compactMap { value in
        if case .scalar(let text, let quoted) = value { return Self.text(text, quoted: quoted) }
        return nil
      }
      return scalars.count == values.count ? "[\(scalars.joined(separator: ", "))]" : nil
    }
  }

  /// Text that is meant as text is quoted unless it can be taken for nothing else.
  private static func text(_ text: String, quoted: Bool) -> String {
    guard quoted else { return text.isEmpty ? "null" : text }
    let words = ["true", "false", "null", "yes", "no", "on", "off", "none", "auto", "all", "y", "n"]
    let isNumber = YAMLNumber.double(text) != nil || isSpecialNumber(text)
    if isBare(text), !words.contains(text.lowercased()), !isNumber { return text }
    return "\"" + text.unicodeScalars.map(escaped).joined() + "\""
  }

  /// Whether the text begins with a letter, `_`, `.` or `/`, and goes on with these, digits, `+` and `-`.
  private static func isBare(_ text: String) -> Bool {
    func isLetter(_ character: UInt8) -> Bool {
      switch character {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
      case UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "/"): true
      default: false
      }
    }
    guard let first = text.utf8.first, isLetter(first) else { return false }
    return text.utf8.dropFirst().allSatisfy {
      isLetter($0) || (48...57).contains($0) || $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "-")
    }
  }

  private static func isSpecialNumber(_ text: String) -> Bool { [".inf", ".nan"].contains(text.lowercased()) }

  private static func escaped(_ scalar: Unicode.Scalar) -> String {
    switch scalar {
    case "\"": return "\\\""
    case "\\": return "\\\\"
    case "\n": return "\\n"
    case "\t": return "\\t"
    default:
      // Control characters, line separators and the byte-order mark are not printable in YAML.
      let hidden =
        scalar.value < 0x20 || (0x7F...0xA0).contains(scalar.value)
        || [0x2028, 0x2029, 0xFEFF].contains(scalar.value)
      let digits = String(scalar.value, radix: 16, uppercase: true)
      return hidden ? "\\u" + String(repeating: "0", count: 4 - digits.count) + digits : String(scalar)
    }
  }
}
