/// A JSON document from an untrusted file.
///
/// It is stricter than Foundation's decoder: a repeated key is an error, and objects keep their order.
package enum StrictJSON: Hashable, Sendable {
  case object([Member])
  case array([StrictJSON])
  case string(String)
  /// A number without a fraction or an exponent that fits 64 bits.
  case integer(Int)
  /// Any other number, as it is written in the document.
  case number(String)
  case bool(Bool)
  case null

  package struct Member: Hashable, Sendable {
    package let key: String
    package let value: StrictJSON
  }

  package struct Problem: Error, CustomStringConvertible {
    /// The position in bytes from the start of the document.
    package let offset: Int
    package let reason: String
    package var description: String { "byte \(offset): \(reason)" }
  }

  /// The kind of the value with its article, for messages.
  package var kind: String {
    switch self {
    case .object: "an object"
    case .array: "an array"
    case .string: "a string"
    case .integer, .number: "a number"
    case .bool: "a boolean"
    case .null: "null"
    }
  }

  package static func parse(_ bytes: [UInt8]) throws(Problem) -> StrictJSON {
    var parser = JSONParser(bytes: bytes)
    let value = try parser.value(depth: 0)
    try parser.finish()
    return value
  }

  /// Returns `text` as a JSON string with its quotes.
  package static func quote(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case "\u{0}"..<" ":
        let digits = String(scalar.value, radix: 16)
        quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }
}

/// Parses one document from front to back.
private struct JSONParser {
  /// A limit on nesting that bounds the recursion. No file of ours is nested as deeply.
  static let deepest = 32

  let bytes: [UInt8]
  var at = 0

  func fail(_ reason: String) -> StrictJSON.Problem { StrictJSON.Problem(offset: at, reason: reason) }

  mutating func skipSpace() {
    while at < bytes.count {
      switch bytes[at] {
      case 0x20, 0x0A, 0x0D, 0x09: at += 1
      default: return
      }
    }
  }

  /// Returns the next byte that is not white space, without consuming it.
  mutating func peek() throws(StrictJSON.Problem) -> UInt8 {
    skipSpace()
    guard at < bytes.count else { throw fail("the text ends too early") }
    return bytes[at]
  }

  mutating func take(_ character: Unicode.Scalar) throws(StrictJSON.Problem) {
    guard try peek() == UInt8(ascii: character) else { throw fail("expected '\(character)'") }
    at += 1
  }

  mutating func finish() throws(StrictJSON.Problem) {
    skipSpace()
    guard at == bytes.count else { throw fail("something follows the end of the document") }
  }

  mutating func value(depth: Int) throws(StrictJSON.Problem) -> StrictJSON {
    guard depth < Self.deepest else { throw fail("nested deeper than \(Self.deepest)") }
    switch try peek() {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return try number()
    }
  }

  mutating func object(depth: Int) throws(StrictJSON.Problem) -> StrictJSON {
    var members: [StrictJSON.Member] = []
    var keys: Set<String> = []
    try take("{")
    if try peek() == UInt8(ascii: "}") {
      at += 1
      return .object([])
    }
    while true {
      guard try peek() == UInt8(ascii: "\"") else { throw fail("expected a key in quotes") }
      let key = try string()
      guard keys.insert(key).inserted else { throw fail("the key \(StrictJSON.quote(key)) appears twice") }
      try take(":")
      members.append(.init(key: key, value: try value(depth: depth + 1)))
      if try peek() == UInt8(ascii: "}") { break }
      try take(",")
    }
    at += 1
    return .object(members)
  }

  mutating func array(depth: Int) throws(StrictJSON.Problem) -> StrictJSON {
    var values: [StrictJSON] = []
    try take("[")
    if try peek() == UInt8(ascii: "]") {
      at += 1
      return .array([])
    }
    while true {
      values.append(try value(depth: depth + 1))
      if try peek() == UInt8(ascii: "]") { break }
      try take(",")
    }
    at += 1
    return .array(values)
  }

  mutating func word(_ word: String, _ value: StrictJSON) throws(StrictJSON.Problem) -> StrictJSON {
    guard bytes[at...].starts(with: word.utf8) else { throw fail("expected a value") }
    at += word.utf8.count
    return value
  }

  /// Parses `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?` without a regular expression, because a caption list has
  /// millions of numbers.
  mutating func number() throws(StrictJSON.Problem) -> StrictJSON {
    let start = at
    _ = skip("-")
    let first = at
    let digits = skipDigits()
    var isSound = digits == 1 || digits > 1 && bytes[first] != UInt8(ascii: "0")
    if skip(".") { isSound = skipDigits() > 0 && isSound }
    if skip("e") || skip("E") {
      _ = skip("+") || skip("-")
      isSound = skipDigits() > 0 && isSound
    }
    guard isSound, at == bytes.count || !"+-.eE0123456789".utf8.contains(bytes[at]) else {
      at = start
      throw fail("expected a value")
    }
    let text = String(decoding: bytes[start..<at], as: UTF8.self)
    return Int(text).map { .integer($0) } ?? .number(text)
  }

  /// Consumes the next character if it is `character`.
  mutating func skip(_ character: Unicode.Scalar) -> Bool {
    guard at < bytes.count, bytes[at] == UInt8(ascii: character) else { return false }
    at += 1
    return true
  }

  /// Consumes digits and returns their number.
  mutating func skipDigits() -> Int {
    let start = at
    while at < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[at]) { at += 1 }
    return at - start
  }

  mutating func string() throws(StrictJSON.Problem) -> String {
    at += 1
    var text: [UInt8] = []
    while true {
      guard at < bytes.count else { throw fail("a string does not end") }
      let byte = bytes[at]
      switch byte {
      case UInt8(ascii: "\""):
        guard let decoded = String(validating: text, as: UTF8.self) else { throw fail("a string is not UTF-8") }
        at += 1
        return decoded
      case UInt8(ascii: "\\"):
        at += 1
        text.append(contentsOf: String(try escape()).utf8)
      case 0..<0x20: throw fail("a control character stands in a string")
      default:
        text.append(byte)
        at += 1
      }
    }
  }

  /// Parses the rest of an escape sequence after its backslash.
  mutating func escape() throws(StrictJSON.Problem) -> Unicode.Scalar {
    guard at < bytes.count else { throw fail("a string does not end") }
    let byte = bytes[at]
    at += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): break
    default: throw fail("an unknown escape")
    }
    var unit = UInt32(try codeUnit())
    if unit >> 10 == 0x36, bytes[at...].starts(with: "\\u".utf8) {
      at += 2
      let low = UInt32(try codeUnit())
      guard low >> 10 == 0x37 else { throw fail("half of a surrogate pair") }
      unit = 0x1_0000 + (unit & 0x3FF) << 10 + low & 0x3FF
    }
    guard let scalar = Unicode.Scalar(unit) else { throw fail("half of a surrogate pair") }
    return scalar
  }

  /// Parses four hexadecimal digits.
  mutating func codeUnit() throws(StrictJSON.Problem) -> UInt16 {
    let digits = String(decoding: bytes[at...].prefix(4), as: UTF8.self)
    guard digits.utf8.count == 4, digits.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
      let unit = UInt16(digits, radix: 16)
    else { throw fail("expected four hexadecimal digits") }
    at += 4
    return unit
  }
}
