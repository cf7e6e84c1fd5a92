/// A value of a run file.
public protocol FieldValue: Sendable, Equatable {
  /// The kind of value that messages say is expected: "a number", "cosine or constant".
  static var expectation: String { get }
  /// Reads a node. If it is of another type, reports that to `problems` and returns nil.
  static func read(_ node: RunNode, _ problems: Problems) -> Self?
  /// The value as it is written.
  var tree: RunTree { get }
  /// Replaces settings that change over the steps by those that hold in one step, counted from 0.
  mutating func advance(to step: Int)
}

extension FieldValue {
  public mutating func advance(to step: Int) {}
}

extension RunNode {
  /// The node in the words of messages, such as "the number 3".
  public var kind: String {
    switch value {
    case .list: return "a list"
    case .section: return "a section"
    case .scalar(let text, let quoted):
      if isNothing { return "nothing" }
      if !quoted, text == "true" || text == "false" { return "\(text)" }
      if !quoted, YAMLNumber.double(text) != nil { return "the number \(text)" }
      return "the text \"\(text)\""
    }
  }

  /// The text of an unquoted scalar; nil for any other node.
  public var plain: String? {
    if case .scalar(let text, false) = value { return text }
    return nil
  }
}

/// The numbers of a run file, which are decimal: `1_000`, `0.5`, `1e-3`.
public enum YAMLNumber {
  public static func integer<I: FixedWidthInteger>(_ text: String) -> I? {
    var scanner = NumberScanner(text)
    scanner.skipSign()
    let hasLeadingZero = scanner.next == UInt8(ascii: "0")
    let digits = scanner.skipDigits(grouped: true)
    guard digits > 0, scanner.isAtEnd, !hasLeadingZero || digits == 1 else { return nil }
    return I(text.replacing("_", with: ""))
  }

  public static func double(_ text: String) -> Double? {
    var scanner = NumberScanner(text)
    scanner.skipSign()
    let whole = scanner.skipDigits(grouped: true)
    let fraction = scanner.skip(UInt8(ascii: ".")) ? scanner.skipDigits(grouped: false) : 0
    guard whole + fraction > 0 else { return nil }
    if scanner.skip(UInt8(ascii: "e")) || scanner.skip(UInt8(ascii: "E")) {
      scanner.skipSign()
      guard scanner.skipDigits(grouped: false) > 0 else { return nil }
    }
    guard scanner.isAtEnd, let value = Double(text.replacing("_", with: "")) else { return nil }
    return value.isFinite ? value : nil
  }
}

/// Scans the characters of a number. A regular expression would be compiled at each use, and a run file has hundreds of
/// values.
private struct NumberScanner {
  private var rest: Substring.UTF8View

  init(_ text: String) { rest = text[...].utf8 }

  var isAtEnd: Bool { rest.isEmpty }
  var next: UInt8? { rest.first }

  /// Skips the character if it is the next, and returns whether it was.
  mutating func skip(_ character: UInt8) -> Bool {
    guard rest.first == character else { return false }
    rest.removeFirst()
    return true
  }

  mutating func skipSign() { _ = skip(UInt8(ascii: "-")) || skip(UInt8(ascii: "+")) }

  /// Skips digits, which single `_` may separate if they are `grouped`, and returns their number.
  mutating func skipDigits(grouped: Bool) -> Int {
    func isDigit(_ character: UInt8?) -> Bool { character.map { (48...57).contains($0) } ?? false }
    var count = 0
    while true {
      if isDigit(rest.first) {
        count += 1
      } else if !grouped || count == 0 || rest.first != UInt8(ascii: "_") || !isDigit(rest.dropFirst().first) {
        return count
      }
      rest.removeFirst()
    }
  }
}

extension Int: FieldValue {
  public static var expectation: String { "a whole number" }
  public static func read(_ node: RunNode, _ problems: Problems) -> Int? { .readInteger(node, problems) }
  public var tree: RunTree { .scalar("\(self)", quoted: false) }
}

extension UInt64: FieldValue {
  public static var expectation: String { "a whole number from 0" }
  public static func read(_ node: RunNode, _ problems: Problems) -> UInt64? { .readInteger(node, problems) }
  public var tree: RunTree { .scalar("\(self)", quoted: false) }
}

extension FixedWidthInteger where Self: FieldValue {
  fileprivate static func readInteger(_ node: RunNode, _ problems: Problems) -> Self? {
    problems.note(node)
    if let value: Self = node.plain.flatMap(YAMLNumber.integer) { return value }
    problems.wrongType(node, expected: expectation)
    return nil
  }
}

extension Double: FieldValue {
  public static var expectation: String { "a number" }
  public static func read(_ node: RunNode, _ problems: Problems) -> Double? {
    problems.note(node)
    if let value = node.plain.flatMap(YAMLNumber.double) { return value }
    problems.wrongType(node, expected: expectation)
    return nil
  }
  public var tree: RunTree { .scalar("\(self)", quoted: false) }
}

extension Bool: FieldValue {
  public static var expectation: String { "true or false" }
  public static func read(_ node: RunNode, _ problems: Problems) -> Bool? {
    problems.note(node)
    switch node.plain {
    case "true": return true
    case "false": return false
    default:
      problems.wrongType(node, expected: expectation)
      return nil
    }
  }
  public var tree: RunTree { .scalar("\(self)", quoted: false) }
}

extension String: FieldValue {
  public static var expectation: String { "text" }
  public static func read(_ node: RunNode, _ problems: Problems) -> String? {
    problems.note(node)
    guard case .scalar(let text, let quoted) = node.value, !node.isNothing else {
      problems.wrongType(node, expected: expectation)
      return nil
    }
    // `name: 12` and `name: true` are more often slips than names.
    if !quoted, text == "true" || text == "false" || YAMLNumber.double(text) != nil {
      problems.add(node.place, "\(node.path): expected text, found \(node.kind); write \"\(text)\" if it is meant")
      return nil
    }
    return text
  }
  public var tree: RunTree { .scalar(self, quoted: true) }
}

/// Enumerations are written as words, and a message about an unknown word lists the known ones.
extension FieldValue where Self: RawRepresentable & CaseIterable, RawValue == String {
  public static var expectation: String {
    let words = allCases.map(\.rawValue)
    return words.count < 2 ? words.joined() : "\(words.dropLast().joined(separator: ", ")) or \(words.last ?? "")"
  }
  public static func read(_ node: RunNode, _ problems: Problems) -> Self? {
    problems.note(node)
    var guess: String?
    if case .scalar(let text, _) = node.value {
      if let value = Self(rawValue: text) { return value }
      guess = text.closest(among: allCases.map(\.rawValue))
    }
    problems.wrongType(node, expected: expectation, guess: guess)
    return nil
  }
  public var tree: RunTree { .scalar(rawValue, quoted: false) }
}

extension Array: FieldValue where Element: FieldValue {
  public static var expectation: String { "a list" }
  public static func read(_ node: RunNode, _ problems: Problems) -> [Element]? {
    problems.note(node)
    guard case .list(let nodes) = node.value else {
      problems.wrongType(node, expected: expectation)
      return nil
    }
    let values = nodes.map { Element.read($0, problems) }
    return values.contains(nil) ? nil : values.compactMap { $0 }
  }
  public var tree: RunTree { .list(map(\.tree)) }
}
