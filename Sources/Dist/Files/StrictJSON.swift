/// A JSON document from an untrusted file. A repeated key is an error, and objects keep their order. `NaN` and
/// `Infinity`, which Python writes, are numbers that no reader takes: they matter only where something is expected.
package enum StrictJSON: Hashable, Sendable {
  case object([Member])
  case array([StrictJSON])
  case string(String)
  case integer(Int)
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

  /// Parses a document of at most `most` values, with or without a byte order mark.
  package static func parse(_ bytes: [UInt8], most: Int = .max) throws(Problem) -> StrictJSON {
    var parser = JSONParser(bytes: bytes, at: TextFile.start(of: bytes), left: most)
    let value = try parser.value(depth: 0)
    parser.skipSpace()
    guard parser.at == bytes.count else { throw parser.fail("something follows the end of the document") }
    return value
  }

  /// Returns `text` as a JSON string with its quotes.
  package static func quote(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case "\u{0}"..<" ", "\u{7F}"..<"\u{A0}":
        quoted += "\\u" + scalar.value.digits(4, radix: 16)
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }
}

private struct JSONParser {
  /// A limit on nesting that bounds the recursion. No file of ours is nested as deeply.
  static let deepest = 32
  let bytes: [UInt8]
  var at = 0
  /// The number of values that may still follow.
  var left: Int
  func fail(_ reason: String) -> StrictJSON.Problem { StrictJSON.Problem(offset: at, reason: reason) }
  mutating func skipSpace() { while at < bytes.count, " \n\r\t".utf8.contains(bytes[at]) { at += 1 } }

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

  mutating func value(depth: Int) throws(StrictJSON.Problem) -> StrictJSON {
    guard depth < Self.deepest else { throw fail("nested deeper than \(Self.deepest)") }
    left -= 1
    guard left >= 0 else { throw fail("it has too many values for its size") }
    switch try peek() {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case UInt8(ascii: "N"): return try word("NaN", .number("NaN"))
    case UInt8(ascii: "I"): return try word("Infinity", .number("Infinity"))
    case UInt8(ascii: "-") where bytes[at...].starts(with: "-I".utf8):
      return try word("-Infinity", .number("-Infinity"))
    default: return try number()
    }
  }

  mutating func object(depth: Int) throws(StrictJSON.Problem) -> StrictJSON {
    var members: [StrictJSON.Member] = []
    var keys: Set<String> = []
    try list(to: "}") { parser throws(StrictJSON.Problem) in
      guard try parser.peek() == UInt8(ascii: "\"") else { throw parser.fail("expected a key in quotes") }
      let key = try parser.string()
      guard keys.insert(key).inserted else { throw parser.fail("the key \(StrictJSON.quote(key)) appears twice") }
      try parser.take(":")
      members.append(.init(key: key, value: try parser.value(depth: depth + 1)))
    }
    return .object(members)
  }

  mutating func array(depth: Int) throws(StrictJSON.Problem) -> StrictJSON {
    var values: [StrictJSON] = []
    try list(to: "]") { parser throws(StrictJSON.Problem) in values.append(try parser.value(depth: depth + 1)) }
    return .array(values)
  }

  /// Parses the items of a list, with commas between them, from its opening bracket to `end`.
  mutating func list(
    to end: Unicode.Scalar, _ item: (inout JSONParser) throws(StrictJSON.Problem) -> Void
  ) throws(StrictJSON.Problem) {
    at += 1
    if try peek() != UInt8(ascii: end) {
      try item(&self)
      while try peek() != UInt8(ascii: end) {
        try take(",")
        try item(&self)
      }
    }
    at += 1
  }

  mutating func word(_ word: String, _ value: StrictJSON) throws(StrictJSON.Problem) -> StrictJSON {
    guard bytes[at...].starts(with: word.utf8) else { throw fail("expected a value") }
    at += word.utf8.count
    return value
  }

  /// Parses `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`, without a regular expression, of which millions are slow.
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

  mutating func skip(_ character: Unicode.Scalar) -> Bool {
    guard at < bytes.count, bytes[at] == UInt8(ascii: character) else { return false }
    at += 1
    return true
  }

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
    let letter = Unicode.Scalar(bytes[at])
    at += 1
    switch letter {
    case "\"", "\\", "/": return letter
    case "b": return "\u{8}"
    case "f": return "\u{C}"
    case "n": return "\n"
    case "r": return "\r"
    case "t": return "\t"
    case "u": break
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

  mutating func codeUnit() throws(StrictJSON.Problem) -> UInt16 {
    let digits = String(decoding: bytes[at...].prefix(4), as: UTF8.self)
    guard digits.utf8.count == 4, digits.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
      let unit = UInt16(digits, radix: 16)
    else { throw fail("expected four hexadecimal digits") }
    at += 4
    return unit
  }
}
