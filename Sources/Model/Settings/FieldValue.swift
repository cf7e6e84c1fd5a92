internal import Foundation

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
      if !quoted, Bool(text) != nil { return text }
      return !quoted && YAMLNumber.double(text) != nil ? "the number \(text)" : "the text \"\(text)\""
    }
  }

  /// The text of an unquoted scalar; nil for any other node.
  public var plain: String? {
    if case .scalar(let text, false) = value { return text }
    return nil
  }
}

/// The numbers of a run file, which are decimal: `1_000`, `0.5`, `1e-3`. A regular expression would be compiled at each
/// use, and a run file has hundreds of values.
public enum YAMLNumber {
  /// Returns the whole number that the text is; nil if it is none or does not fit `I`.
  public static func integer<I: FixedWidthInteger>(_ text: String) -> I? {
    let digits = unsigned(text[...])
    guard isGrouped(digits), digits.first != "0" || digits.count == 1 else { return nil }
    return I(text.replacing("_", with: ""))
  }

  /// Returns the finite number that the text is; nil if it is none.
  public static func double(_ text: String) -> Double? {
    let parts = text.split(maxSplits: 1, omittingEmptySubsequences: false) { $0 == "e" || $0 == "E" }
    let mantissa = unsigned(parts[0]).split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    let (whole, fraction) = (mantissa[0], mantissa.count > 1 ? mantissa[1] : "")
    guard whole.isEmpty ? !fraction.isEmpty : isGrouped(whole), fraction.isEmpty || isDigits(fraction),
      parts.count == 1 || isDigits(unsigned(parts[1])), let value = Double(text.replacing("_", with: ""))
    else { return nil }
    return value.isFinite ? value : nil
  }

  private static func unsigned(_ text: Substring) -> Substring {
    text.hasPrefix("-") || text.hasPrefix("+") ? text.dropFirst() : text
  }

  private static func isDigits(_ text: Substring) -> Bool {
    !text.isEmpty && text.utf8.allSatisfy { (48...57).contains($0) }
  }

  /// Returns whether the text is digits, which single `_` may separate.
  private static func isGrouped(_ text: Substring) -> Bool {
    text.split(separator: "_", omittingEmptySubsequences: false).allSatisfy(isDigits)
  }
}

extension FieldValue where Self: LosslessStringConvertible {
  public var tree: RunTree { .scalar(description, quoted: false) }
}

extension FieldValue where Self: FixedWidthInteger {
  /// Seeds may have all 64 bits. Counts, which are signed, lie within ±2⁵³, so that sums of them cannot overflow.
  public static func read(_ node: RunNode, _ problems: Problems) -> Self? {
    guard let number: Self = problems.read(node, { $0.plain.flatMap(YAMLNumber.integer) }) else { return nil }
    guard !Self.isSigned || number.magnitude <= UInt64(1) << 53 else {
      problems.add(node.place, "\(node.path): expected a whole number within ±2⁵³, found \(number)")
      return nil
    }
    return number
  }
}

extension Int: FieldValue { public static var expectation: String { "a whole number" } }
extension UInt64: FieldValue { public static var expectation: String { "a whole number from 0" } }

extension Double: FieldValue {
  public static var expectation: String { "a number" }
  public static func read(_ node: RunNode, _ problems: Problems) -> Double? {
    problems.read(node) { $0.plain.flatMap(YAMLNumber.double) }
  }
}

extension Bool: FieldValue {
  public static var expectation: String { "true or false" }
  public static func read(_ node: RunNode, _ problems: Problems) -> Bool? {
    problems.read(node) { $0.plain.flatMap { Bool($0) } }
  }
}

extension String: FieldValue {
  public static var expectation: String { "text" }
  public static func read(_ node: RunNode, _ problems: Problems) -> String? {
    problems.note(node)
    guard case .scalar(let text, let quoted) = node.value, !node.isNothing else { return problems.wrongType(node) }
    // `name: 12` and `name: true` are more often slips than names.
    if quoted || Bool(text) == nil && YAMLNumber.double(text) == nil { return text.withHome }
    problems.add(node.place, "\(node.path): expected text, found \(node.kind); write \"\(text)\" if it is meant")
    return nil
  }
  public var tree: RunTree { .scalar(self, quoted: true) }
}

extension String {
  /// The text with the user's home folder for a `~` in front of its first slash. Shells write it so themselves, but not
  /// in a run file, in quotes, or behind the `=` of an option.
  public var withHome: String {
    guard hasPrefix("~/"), let home = ProcessInfo.processInfo.environment["HOME"], !home.isEmpty else { return self }
    return home + dropFirst()
  }
}

/// Enumerations are written as words, and a message about an unknown word lists the known ones.
extension FieldValue where Self: RawRepresentable & CaseIterable, RawValue == String {
  public static var expectation: String {
    let words = allCases.map(\.rawValue)
    return words.count < 2 ? words.joined() : "\(words.dropLast().joined(separator: ", ")) or \(words.last ?? "")"
  }
  public static func read(_ node: RunNode, _ problems: Problems) -> Self? {
    problems.note(node)
    guard case .scalar(let text, _) = node.value else { return problems.wrongType(node) }
    return Self(rawValue: text) ?? problems.wrongType(node, guess: text.closest(among: allCases.map(\.rawValue)))
  }
  public var tree: RunTree { .scalar(rawValue, quoted: false) }
}

extension Array: FieldValue where Element: FieldValue {
  public static var expectation: String { "a list" }
  public static func read(_ node: RunNode, _ problems: Problems) -> [Element]? {
    problems.note(node)
    guard case .list(let nodes) = node.value else { return problems.wrongType(node) }
    let values = nodes.compactMap { Element.read($0, problems) }
    return values.count == nodes.count ? values : nil
  }
  public var tree: RunTree { .list(map(\.tree)) }
}
