import Dist

/// Reads CSV or TSV by RFC 4180, from a file of any size. A field in double quotes may hold separators, line ends and
/// doubled quotes. Lines end with LF, CRLF or CR; a byte order mark and empty lines are skipped.
struct DelimitedReader {
  /// One record, with the line on which it begins, counting from 1.
  struct Record: Equatable {
    var line: Int
    /// The fields' bytes, not yet checked to be UTF-8.
    var fields: [[UInt8]]
  }

  /// The longest field in bytes; a longer one is taken for a quote that was never closed.
  static let longestField = 1 << 20
  private static let quote = UInt8(ascii: "\"")
  private static let lineFeed = UInt8(ascii: "\n")
  private static let carriageReturn = UInt8(ascii: "\r")
  private let file: OpenFile
  private let size: Int
  private let separator: UInt8
  private let quoted: Bool
  private var block: [UInt8] = []
  private var offset = 0
  private var at = 0
  private var line = 1

  /// - Parameter quoted: if true, double quotes enclose fields; if false, they are characters like any other.
  init(_ path: String, separator: UInt8, quoted: Bool) throws {
    file = try OpenFile.reading(path)
    size = try file.size()
    (self.separator, self.quoted) = (separator, quoted)
    if size >= 3, try file.read(3, of: UInt8.self, at: 0) == [0xEF, 0xBB, 0xBF] { offset = 3 }
  }

  /// Returns the next record that is not an empty line, or nil at the end.
  mutating func next() throws -> Record? {
    while Self.endsLine(try peek()) { try endLine() }
    guard try peek() != nil else { return nil }
    var record = Record(line: line, fields: [])
    while true {
      record.fields.append(try field(of: record))
      guard try peek() == separator else { break }
      at += 1
    }
    if try peek() != nil { try endLine() }
    return record
  }

  /// Reads one field, which a separator, a line end or the end of the file follows.
  private mutating func field(of record: Record) throws -> [UInt8] {
    var field: [UInt8] = []
    guard quoted, try peek() == Self.quote else {
      while let byte = try peek(), byte != separator, !Self.endsLine(byte) {
        try append(byte, to: &field, of: record)
        at += 1
      }
      return field
    }
    at += 1
    while let byte = try peek() {
      at += 1
      if byte == Self.lineFeed { line += 1 }
      if byte == Self.carriageReturn, try peek() != Self.lineFeed { line += 1 }
      guard byte == Self.quote else {
        try append(byte, to: &field, of: record)
        continue
      }
      let next = try peek()
      if next == nil || next == separator || Self.endsLine(next) { return field }
      guard next == Self.quote else {
        throw failure(record, "text follows a closing quote; double the quotes inside a quoted field")
      }
      field.append(Self.quote)
      at += 1
    }
    throw failure(record, "a quote is opened and never closed")
  }

  private func append(_ byte: UInt8, to field: inout [UInt8], of record: Record) throws {
    guard field.count < Self.longestField else {
      throw failure(record, "a field is longer than \(Self.longestField) bytes; is a quote not closed?")
    }
    field.append(byte)
  }

  private func failure(_ record: Record, _ reason: String) -> UserError {
    let hint = quoted ? " (--no-quotes takes quotes as plain characters)" : ""
    return UserError("\(file.path):\(record.line)", reason + hint)
  }

  private static func endsLine(_ byte: UInt8?) -> Bool { byte == lineFeed || byte == carriageReturn }

  private mutating func endLine() throws {
    let byte = try peek()
    at += 1
    if byte == Self.carriageReturn, try peek() == Self.lineFeed { at += 1 }
    line += 1
  }

  private mutating func peek() throws -> UInt8? {
    if at == block.count {
      let count = min(1 << 18, size - offset)
      guard count > 0 else { return nil }
      block = try file.read(count, of: UInt8.self, at: offset)
      offset += count
      at = 0
    }
    return block[at]
  }
}
