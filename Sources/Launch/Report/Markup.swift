/// HTML in which nothing stays unescaped by mistake. Literals of the program are markup; values interpolated with
/// `\(…)` are escaped as text unless they are markup themselves.
struct Markup: ExpressibleByStringInterpolation, Equatable, Sendable {
  private(set) var text: String
  init(stringLiteral literal: String) { text = literal }
  init(stringInterpolation: StringInterpolation) { text = stringInterpolation.text }
  /// Takes text that is known to be markup, such as a style sheet or a chart's path.
  init(trusted text: String) { self.text = text }
  static func += (markup: inout Markup, more: Markup) { markup.text += more.text }

  struct StringInterpolation: StringInterpolationProtocol {
    fileprivate var text = ""

    init(literalCapacity: Int, interpolationCount: Int) {
      text.reserveCapacity(literalCapacity + 16 * interpolationCount)
    }

    mutating func appendLiteral(_ literal: String) { text += literal }
    mutating func appendInterpolation(_ text: String) { self.text += Markup.escaped(text) }
    mutating func appendInterpolation(_ number: Int) { text += "\(number)" }
    mutating func appendInterpolation(_ markup: Markup?) { text += markup?.text ?? "" }
    mutating func appendInterpolation(_ list: [Markup]) { for markup in list { text += markup.text } }
  }

  /// Replaces all characters with a meaning in HTML, also inside quotes, and the control characters that HTML forbids.
  static func escaped(_ text: String) -> String {
    // Most texts contain no such character. 0xC2 is the first byte of the control characters beyond ASCII.
    let isPlain = text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F && $0 != 0xC2 && special[$0] == nil }
    if isPlain { return text }
    var escaped = ""
    for scalar in text.unicodeScalars {
      if let byte = UInt8(exactly: scalar.value), let entity = special[byte] {
        escaped += entity
      } else if scalar.properties.generalCategory == .control, scalar != "\n", scalar != "\t" {
        escaped.unicodeScalars.append("\u{FFFD}")
      } else {
        escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }

  private static let special: [UInt8: String] = [
    UInt8(ascii: "&"): "&amp;", UInt8(ascii: "<"): "&lt;", UInt8(ascii: ">"): "&gt;", UInt8(ascii: "\""): "&quot;",
    UInt8(ascii: "'"): "&#39;",
  ]
}

extension Markup {
  /// A table in a box that scrolls sideways.
  static func table(_ head: [Markup], _ rows: [Markup], box: Markup = "class=\"wide\"") -> Markup {
    let head: Markup? = head.isEmpty ? nil : "<thead><tr>\(head)</tr></thead>\n"
    return "<div \(box)><table>\(head)<tbody>\(rows)</tbody></table></div>\n"
  }

  /// The head of a column of texts or figures.
  static func head(_ name: Markup, isFigure: Bool = true) -> Markup {
    "<th scope=\"col\"\(isFigure ? " class=\"figure\"" : nil as Markup?)>\(name)</th>"
  }

  static func row(_ name: Markup, _ cells: [Markup]) -> Markup { "<tr><th scope=\"row\">\(name)</th>\(cells)</tr>" }
  static func cell(_ text: String) -> Markup { "<td>\(text)</td>" }
  static func figure(_ text: String?, isBest: Bool = false) -> Markup {
    "<td class=\"figure\(isBest ? " best" : "")\">\(text ?? "–")</td>"
  }
}

extension [Markup] {
  func joined(_ separator: Markup) -> Markup { Markup(trusted: map(\.text).joined(separator: separator.text)) }
}
