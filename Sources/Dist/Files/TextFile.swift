internal import Foundation

extension Character {
  /// True for what ends a line of a file: LF, CRLF or CR. Other line separators of Unicode are part of a text, as they
  /// are for the tools that write lists of captions.
  package var endsLine: Bool { self == "\n" || self == "\r\n" || self == "\r" }
}

/// Reads the texts that users give: run files, configurations, lists of classes and templates, reports. A text is
/// UTF-8, with or without a byte order mark, in a regular file of limited size: reading a pipe could wait forever.
package enum TextFile {
  /// The largest text that is read unless a caller says otherwise, in bytes.
  package static let limit = 16 << 20

  /// Returns the text of the file `path`, or of standard input for `-` if `acceptsInput`, without a byte order mark.
  /// Throws a `FileError` with the status `badData` for contents that are not such a text.
  package static func read(
    _ path: String, limit: Int = TextFile.limit, acceptsInput: Bool = false
  ) throws(FileError) -> String {
    if acceptsInput, path == "-" { return try text(of: input(limit), from: "standard input") }
    let file = try OpenFile.reading(path)
    let size = try file.size()
    guard size <= limit else { throw tooLong(path, "\(size) bytes", limit) }
    return try text(of: file.read(size, of: UInt8.self, at: 0), from: path)
  }

  /// Returns the text of a JSON file for Foundation's reader: `NaN` and `Infinity`, which Python writes and that reader
  /// refuses wherever they stand, become strings, so that they matter only where something else is expected.
  package static func json(_ path: String) throws(FileError) -> String {
    let text = try read(path)
    guard text.contains("NaN") || text.contains("Infinity") else { return text }
    let token = #/"(?:[^"\\]++|\\.)*+"|-?(?:NaN|Infinity)/#.matchingSemantics(.unicodeScalar)
    return text.replacing(token) { $0.output.hasPrefix("\"") ? String($0.output) : "\"\($0.output)\"" }
  }

  /// Returns the text that `bytes` are, without a byte order mark. Errors name their source, `path`.
  package static func text(of bytes: [UInt8], from path: String) throws(FileError) -> String {
    guard !bytes.starts(with: [0xFF, 0xFE]), !bytes.starts(with: [0xFE, 0xFF]) else {
      throw unreadable(path, "it is UTF-16; save it as UTF-8")
    }
    func place(_ at: Int) -> String { "byte \(at) (line \(bytes[..<at].count { $0 == UInt8(ascii: "\n") } + 1))" }
    if let zero = bytes.firstIndex(of: 0) {
      throw unreadable(path, "it is not text: \(place(zero)) is zero; save it as UTF-8")
    }
    guard let text = String(validating: bytes[start(of: bytes)...], as: UTF8.self) else {
      let at = validBytes(bytes)
      let found = String(bytes[at], radix: 16)
      throw unreadable(path, "it is not UTF-8: \(place(at)) is 0x\(found); save it as UTF-8")
    }
    return text
  }

  /// Returns the offset at which a text begins: behind a byte order mark, if it has one.
  static func start(of bytes: [UInt8]) -> Int { bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0 }

  /// Returns how many bytes stand before the first one that is not UTF-8.
  private static func validBytes(_ bytes: [UInt8]) -> Int {
    var parser = UTF8.ForwardParser()
    var iterator = bytes.makeIterator()
    var count = 0
    while case .valid(let scalar) = parser.parseScalar(from: &iterator) { count += scalar.count }
    return count
  }

  private static func input(_ limit: Int) throws(FileError) -> [UInt8] {
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count <= limit {
      let count = unsafe block.withUnsafeMutableBytes { unsafe Foundation.read(STDIN_FILENO, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      if count < 0 { throw FileError.system("read", "standard input") }
      if count == 0 { return bytes }
      bytes += block.prefix(count)
    }
    throw tooLong("standard input", "more", limit)
  }

  private static func tooLong(_ path: String, _ found: String, _ limit: Int) -> FileError {
    unreadable(path, "expected a text of at most \(limit) bytes, found \(found)")
  }

  private static func unreadable(_ path: String, _ reason: String) -> FileError {
    FileError(action: "read", path: path, reason: reason, status: .badData)
  }
}
