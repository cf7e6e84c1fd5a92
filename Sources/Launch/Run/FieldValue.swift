/// A value that stands in a run file.
protocol FieldValue: Sendable, Equatable {
  /// What is expected here, for messages: "a number", "cosine or constant".
  static var expectation: String { get }
  /// Reads a node; tells `problems` and returns nil if it is of another type.
  static func read(_ node: RunNode, _ problems: Problems) -> Self?
  var tree: RunTree { get }
}

extension RunNode {
  /// What a reader of the file sees here, for messages.
  var kind: String {
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

  /// Unquoted text, if the node is that.
  var plain: String? {
    if case .scalar(let text, false) = value { return text }
    return nil
  }
}

/// Numbers as they may be written in a run file: decimal, `_` between digits allowed, `1e-3` too.
enum YAMLNumber {
  static func integer<I: FixedWidthInteger>(_ text: String) -> I? {
    guard text.wholeMatch(of: #/[-+]?(0|[1-9][0-9]*(_[0-9]+)*)/#) != nil else { return nil }
    return I(text.replacing("_", with: ""))
  }

  static func double(_ text: String) -> Double? {
    let pattern = #/[-+]?([0-9]+(_[0-9]+)*(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?/#
    guard text.wholeMatch(of: pattern) != nil, let value = Double(text.replacing("_", with: "")) else { return nil }
    return value.isFinite ? value : nil
  }
}

extension Int: FieldValue {
  static var expectation: String { "a whole number" }
  static func read(_ node: RunNode, _ problems: Problems) -> Int? { .readInteger(node, problems) }
  var tree: RunTree { .scalar("\(self)", quoted: false) }
}

extension UInt64: FieldValue {
  static var expectation: String { "a whole number from 0" }
  static func read(_ node: RunNode, _ problems: Problems) -> UInt64? { .readInteger(node, problems) }
  var tree: RunTree { .scalar("\(self)", quoted: false) }
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
  static var expectation: String { "a number" }
  static func read(_ node: RunNode, _ problems: Problems) -> Double? {
    problems.note(node)
    if let value = node.plain.flatMap(YAMLNumber.double) { return value }
    problems.wrongType(node, expected: expectation)
    return nil
  }
  var tree: RunTree { .scalar("\(self)", quoted: false) }
}

extension Bool: FieldValue {
  static var expectation: String { "true or false" }
  static func read(_ node: RunNode, _ problems: Problems) -> Bool? {
    problems.note(node)
    switch node.plain {
    case "true": return true
    case "false": return false
    default:
      problems.wrongType(node, expected: expectation)
      return nil
    }
  }
  var tree: RunTree { .scalar("\(self)", quoted: false) }
}

extension String: FieldValue {
  static var expectation: String { "text" }
  static func read(_ node: RunNode, _ problems: Problems) -> String? {
    problems.note(node)
    guard case .scalar(let text, let quoted) = node.value, !node.isNothing else {
      problems.wrongType(node, expected: expectation)
      return nil
    }
    // `name: 12` and `name: true` are more often a slip than a name.
    if !quoted, text == "true" || text == "false" || YAMLNumber.double(text) != nil {
      problems.add(node.place, "\(node.path): expected text, found \(node.kind); write \"\(text)\" if it is meant")
      return nil
    }
    return text
  }
  var tree: RunTree { .scalar(self, quoted: true) }
}

/// Enumerations of words: the known ones are listed when another is found.
extension FieldValue where Self: RawRepresentable & CaseIterable, RawValue == String {
  static var expectation: String {
    let words = allCases.map(\.rawValue)
    return words.count < 2 ? words.joined() : "\(words.dropLast().joined(separator: ", ")) or \(words.last ?? "")"
  }
  static func read(_ node: RunNode, _ problems: Problems) -> Self? {
    problems.note(node)
    var guess: String?
    if case .scalar(let text, _) = node.value {
      if let value = Self(rawValue: text) { return value }
      guess = text.closest(among: allCases.map(\.rawValue))
    }
    problems.wrongType(node, expected: expectation, guess: guess)
    return nil
  }
  var tree: RunTree { .scalar(rawValue, quoted: false) }
}

extension Array: FieldValue where Element: FieldValue {
  static var expectation: String { "a list" }
  static func read(_ node: RunNode, _ problems: Problems) -> [Element]? {
    problems.note(node)
    guard case .list(let nodes) = node.value else {
      problems.wrongType(node, expected: expectation)
      return nil
    }
    let values = nodes.map { Element.read($0, problems) }
    return values.contains(nil) ? nil : values.compactMap { $0 }
  }
  var tree: RunTree { .list(map(\.tree)) }
}
