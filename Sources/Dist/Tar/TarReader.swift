/// Reads the members of a tar archive from front to back, in the v7, ustar, GNU (long names) and pax formats.
///
/// It replaces libarchive, which streams an archive through one thread, accepts one that was truncated between two
/// members, and would bring ten libraries to every rank. This reader reads only headers, and any thread reads images at
/// their offsets. An archive without its closing blocks is an error, and every error names the member and its offset.
package struct TarReader: Sendable {
  /// The limit in bytes on long names and pax headers; longer ones are treated as damage.
  private static let longestExtension = 1 << 20
  /// The bytes per read, which cover several headers and short texts.
  private static let windowSize = 1 << 14

  package let path: String
  private let file: OpenFile
  private let size: Int
  private var window: [UInt8] = []
  private var windowStart = 0
  /// The offset of the next header.
  private var at = 0
  private var globals = PaxRecords()

  package init(_ path: String) throws {
    self.path = path
    file = try OpenFile.reading(path)
    size = try file.size()
    if size == 0 { throw failure("is empty; a tar ends with two blocks of zeros") }
    let head = try file.read(min(size, TarHeader.size), of: UInt8.self, at: 0)
    if let words = FileSignature.foreign(head) { throw failure(words) }
  }

  /// Returns the next member that is not a folder, or nil after the last. What is not a plain file has a `fault`.
  package mutating func next() throws -> TarMember? {
    var longName: [UInt8]?
    var records = globals
    while true {
      let start = at
      guard let header = try header() else { return nil }
      switch header.type {
      case "L": longName = Array(try extensionBytes(header, start).prefix { $0 != 0 })
      case "K": _ = try extensionBytes(header, start)
      case "x", "X", "g":
        let bytes = try extensionBytes(header, start)
        let found = try located(start, nil) { try PaxRecords(bytes) }
        if header.type == "g" { globals.merge(found) }
        records.merge(found)
      default:
        let name = records.path ?? longName ?? header.name
        if let member = try member(header, start, name, records) { return member }
        longName = nil
        records = globals
      }
    }
  }

  /// Returns the bytes of a member. Throws if there are more than `limit`.
  package mutating func contents(of member: TarMember, limit: Int) throws -> [UInt8] {
    guard member.bytes.count <= limit else {
      throw failure("has \(member.bytes.count) bytes, more than \(limit)", member.header, member.name)
    }
    return Array(try bytes(member.bytes))
  }

  /// Reads the header at `at` and moves `at` past it. Returns nil at the end of the archive.
  private mutating func header() throws -> TarHeader? {
    let start = at
    guard size - start >= TarHeader.size else {
      guard start > 0 else { throw failure("is not a tar: it has \(size) bytes, and a header alone has 512") }
      let found = size == start ? "nothing follows" : "\(size - start) bytes follow"
      throw failure("is truncated or still being written: \(found) where a header or a closing block should be", start)
    }
    let block = try bytes(start..<start + TarHeader.size)
    guard block.contains(where: { $0 != 0 }) else {
      try checkEnd(start)
      return nil
    }
    at += TarHeader.size
    do throws(TarProblem) { return try TarHeader(block) } catch {
      throw failure(start == 0 ? "is not a tar: \(error.reason)" : "is damaged: \(error.reason)", start)
    }
  }

  /// Throws if anything but zeros follows the closing blocks: a second archive there would be lost silently.
  private func checkEnd(_ start: Int) throws {
    for from in stride(from: start, to: size, by: 1 << 16) {
      let rest = try file.read(min(size - from, 1 << 16), of: UInt8.self, at: from)
      if let index = rest.firstIndex(where: { $0 != 0 }) {
        throw failure("ends here, but more follows at byte \(from + index); is the file several tars in a row?", start)
      }
    }
  }

  /// Reads the bytes of a long name or a pax header and moves `at` past them.
  private mutating func extensionBytes(_ header: TarHeader, _ start: Int) throws -> [UInt8] {
    guard header.count <= Self.longestExtension else {
      throw failure("a name or pax header of \(header.count) bytes, more than \(Self.longestExtension)", start)
    }
    return Array(try bytes(try data(header.count, header: start, nil)))
  }

  /// Returns the header's member and moves `at` past its bytes. Folders and labels, which have no contents, give nil.
  private mutating func member(
    _ header: TarHeader, _ start: Int, _ bytes: [UInt8], _ records: PaxRecords
  ) throws -> TarMember? {
    let text = String(validating: bytes, as: UTF8.self)
    let name = text ?? String(decoding: bytes, as: UTF8.self)
    let sparse = "is a sparse file; pack it again without tar's --sparse"
    var fault = text == nil ? "has a name that is not UTF-8" : nil
    var count = try located(start, name) { try records.size() } ?? header.count
    var isFile = true
    switch header.type {
    case "0", "\0", "7":
      // Before ustar a folder was a file whose name ends with a slash.
      if bytes.last == UInt8(ascii: "/") { (isFile, count) = (false, 0) }
      if records.isSparse { fault = sparse }
    case "1", "2":
      // POSIX allows bytes after a hard link; without pax headers its size does not count bytes of the archive.
      if header.type == "2" || records.values.isEmpty { count = 0 }
      fault = "is a link to another file; pack the files themselves (tar has --dereference and --hard-dereference)"
    case "3", "4", "6":
      count = 0
      fault = "is a device or a pipe"
    case "5", "V": (isFile, count) = (false, 0)
    case "D", "N": isFile = false
    case "S":
      try skipMap(header, start, name)
      fault = sparse
    case "M": fault = "continues from another volume of the tar"
    default: fault = "is of the unknown type “\(header.type.isASCII ? header.type : "\u{FFFD}")”"
    }
    let range = try data(count, header: start, name)
    return isFile ? TarMember(name: name, bytes: range, fault: fault, header: start) : nil
  }

  /// Skips the blocks that continue the map of a sparse file in GNU's old format.
  private mutating func skipMap(_ header: TarHeader, _ start: Int, _ name: String) throws {
    var isContinued = header.isMapContinued
    while isContinued { isContinued = Array(try bytes(try data(TarHeader.size, header: start, name)))[504] != 0 }
  }

  /// Returns the range of the next `count` bytes, whose header is at `start`, and moves `at` past their last block.
  private mutating func data(_ count: Int, header start: Int, _ name: String?) throws -> Range<Int> {
    let room = (size - at) / TarHeader.size * TarHeader.size
    guard count <= room else {
      throw failure("is truncated: \(count) bytes should follow, but there are \(size - at)", start, name)
    }
    defer { at += (count + TarHeader.size - 1) / TarHeader.size * TarHeader.size }
    return at..<at + count
  }

  /// Returns the bytes of a range within the file.
  private mutating func bytes(_ range: Range<Int>) throws -> ArraySlice<UInt8> {
    if range.lowerBound < windowStart || range.upperBound > windowStart + window.count {
      let count = min(max(range.count, Self.windowSize), size - range.lowerBound)
      window = try file.read(count, of: UInt8.self, at: range.lowerBound)
      windowStart = range.lowerBound
    }
    return window[(range.lowerBound - windowStart)..<(range.upperBound - windowStart)]
  }

  private func failure(_ reason: String, _ offset: Int = 0, _ member: String? = nil) -> TarError {
    TarError(path: path, offset: offset, member: member, reason: reason)
  }

  /// Runs `body`, and adds the offset of the header and the member's name to its problems.
  private func located<R>(_ start: Int, _ name: String?, _ body: () throws -> R) throws -> R {
    do { return try body() } catch let problem as TarProblem {
      throw failure("is damaged: \(problem.reason)", start, name)
    }
  }
}

/// A file in a tar archive.
package struct TarMember: Hashable, Sendable {
  package let name: String
  /// The range of its bytes in the archive.
  package let bytes: Range<Int>
  /// Why its bytes cannot be used, as the predicate of a sentence about its name; nil for a plain file.
  package let fault: String?
  /// The offset of its header, for messages.
  let header: Int
}

/// A tar archive that cannot be read, with the offset of the problem.
package struct TarError: ExitCoded, Hashable, CustomStringConvertible {
  package let path: String
  /// The offset of the header at fault.
  package let offset: Int
  /// The name of the member that the header belongs to, if it is known.
  package let member: String?
  package let reason: String

  package var status: ExitStatus { .badData }
  package var description: String { "\(path): \(member.map { "“\($0)”, " } ?? "")byte \(offset): \(reason)" }
}
