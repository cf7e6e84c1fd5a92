/// Reads a tar front to back: v7, ustar, GNU (long names) and pax, without a copy of what lies between the headers.
///
/// Why not a library: libarchive streams an archive through one thread, takes one that was cut between two members for
/// whole, and would bring ten libraries to every rank. Here only headers are read and any thread reads pictures at
/// their place; a tar without its closing blocks is an error, and every error has the place and the name.
package struct TarReader: Sendable {
  /// Longer names and pax headers are taken for damage.
  private static let longestExtension = 1 << 20
  /// Bytes that are read at once: headers and short texts of neighbours lie together.
  private static let windowSize = 1 << 14

  package let path: String
  private let file: OpenFile
  private let size: Int
  private var window: [UInt8] = []
  private var windowStart = 0
  /// Where the next header begins.
  private var at = 0
  private var globals = PaxRecords()

  package init(_ path: String) throws {
    self.path = path
    file = try OpenFile.reading(path)
    size = try file.size()
    if size == 0 { throw failure("is empty; a tar ends with two blocks of zeros") }
    let head = try file.read(min(size, 6), of: UInt8.self, at: 0)
    let packed: [([UInt8], String)] = [
      ([0x1F, 0x8B], "gunzip"), ([0x42, 0x5A, 0x68], "bunzip2"), ([0xFD, 0x37, 0x7A, 0x58, 0x5A], "unxz"),
      ([0x28, 0xB5, 0x2F, 0xFD], "unzstd"),
    ]
    if let (_, tool) = packed.first(where: { head.starts(with: $0.0) }) {
      throw failure("is compressed, and pictures hardly get smaller by that; unpack it with \(tool)")
    }
  }

  /// The next member that is no folder; nil behind the last. What is no plain file has a `fault`.
  package mutating func next() throws -> TarMember? {
    var longName: [UInt8]?
    var records = globals
    while true {
      let start = at
      guard let header = try header() else { return nil }
      switch header.type {
      case UInt8(ascii: "L"):
        longName = Array(try extensionBytes(header, start).prefix { $0 != 0 })
      case UInt8(ascii: "K"):
        _ = try extensionBytes(header, start)
      case UInt8(ascii: "x"), UInt8(ascii: "X"), UInt8(ascii: "g"):
        let bytes = try extensionBytes(header, start)
        let found = try located(start, nil) { try PaxRecords(bytes) }
        if header.type == UInt8(ascii: "g") { globals.merge(found) }
        records.merge(found)
      default:
        let name = records.path ?? longName ?? header.name
        if let member = try member(header, start, name, records) { return member }
        longName = nil
        records = globals
      }
    }
  }

  /// The bytes of a member, at most `limit`.
  package mutating func contents(of member: TarMember, limit: Int) throws -> [UInt8] {
    guard member.bytes.count <= limit else {
      throw failure("has \(member.bytes.count) bytes, more than \(limit)", member.header, member.name)
    }
    return Array(try bytes(member.bytes))
  }

  /// The header at `at`, behind which `at` is then; nil at the end of the archive.
  private mutating func header() throws -> TarHeader? {
    let start = at
    guard size - start >= TarHeader.size else {
      let found = size == start ? "nothing follows" : "\(size - start) bytes follow"
      throw failure("is cut, or is still being written: \(found) where a header or a closing block should be", start)
    }
    let block = try bytes(start..<start + TarHeader.size)
    if block.allSatisfy({ $0 == 0 }) {
      try checkEnd(start)
      return nil
    }
    do throws(TarHeader.Problem) {
      let header = try TarHeader(block)
      at += TarHeader.size
      return header
    } catch {
      throw failure(start == 0 ? "is not a tar: \(error.reason)" : "is damaged: \(error.reason)", start)
    }
  }

  /// Behind the closing blocks there may be more zeros, but no second archive: it would be lost without a word.
  private func checkEnd(_ start: Int) throws {
    var from = start
    while from < size {
      let count = min(size - from, 1 << 16)
      let rest = try file.read(count, of: UInt8.self, at: from)
      if let index = rest.firstIndex(where: { $0 != 0 }) {
        throw failure("ends here, but more follows at byte \(from + index); are these several tars in one file?", start)
      }
      from += count
    }
  }

  /// The bytes of a long name or a pax header, behind which `at` is then.
  private mutating func extensionBytes(_ header: TarHeader, _ start: Int) throws -> [UInt8] {
    guard header.count <= Self.longestExtension else {
      throw failure("a name or pax header of \(header.count) bytes, more than \(Self.longestExtension)", start)
    }
    let range = try data(header.count, start, nil)
    return Array(try bytes(range))
  }

  /// What the header describes, behind whose bytes `at` is then; nil: a folder or a mark that holds nothing.
  private mutating func member(
    _ header: TarHeader, _ start: Int, _ bytes: [UInt8], _ records: PaxRecords
  ) throws -> TarMember? {
    let text = String(validating: bytes, as: UTF8.self)
    let name = text ?? String(decoding: bytes, as: UTF8.self)
    let stated = try located(start, name) { try records.size() } ?? header.count
    var fault = text == nil ? "has a name that is not UTF-8" : nil
    var count = stated
    var isFile = true
    switch header.type {
    case UInt8(ascii: "0"), 0, UInt8(ascii: "7"):
      // Before ustar a folder was a file whose name ends so.
      if bytes.last == UInt8(ascii: "/") { (isFile, count) = (false, 0) }
      if records.isSparse { fault = "is a sparse file; pack it again without tar's --sparse" }
    case UInt8(ascii: "1"), UInt8(ascii: "2"):
      // POSIX lets a hard link carry bytes; without pax headers its size says nothing of the tar.
      if header.type == UInt8(ascii: "2") || records.values.isEmpty { count = 0 }
      fault = "is a link to another file; pack the files themselves (tar has --dereference and --hard-dereference)"
    case UInt8(ascii: "3"), UInt8(ascii: "4"), UInt8(ascii: "6"):
      count = 0
      fault = "is a device or a pipe"
    case UInt8(ascii: "5"), UInt8(ascii: "V"):
      (isFile, count) = (false, 0)
    case UInt8(ascii: "D"), UInt8(ascii: "N"):
      isFile = false
    case UInt8(ascii: "S"):
      try skipMap(header, start, name)
      fault = "is a sparse file; pack it again without tar's --sparse"
    case UInt8(ascii: "M"):
      fault = "goes on from another volume of the tar"
    default:
      fault = "is of the unknown type “\(String(decoding: [header.type], as: UTF8.self))”"
    }
    let range = try data(count, start, name)
    return isFile ? TarMember(name: name, bytes: range, fault: fault, header: start) : nil
  }

  /// Passes the blocks by which GNU's old form of a sparse file goes on with its map.
  private mutating func skipMap(_ header: TarHeader, _ start: Int, _ name: String) throws {
    var goesOn = header.mapGoesOn
    while goesOn {
      let block = try bytes(try data(TarHeader.size, start, name))
      goesOn = block[block.startIndex + 504] != 0
    }
  }

  /// The next `count` bytes, behind whose last block `at` is then.
  private mutating func data(_ count: Int, _ start: Int, _ name: String?) throws -> Range<Int> {
    let room = (size - at) / TarHeader.size * TarHeader.size
    guard count <= room else {
      throw failure("is cut: \(count) bytes should follow, and there are \(size - at)", start, name)
    }
    defer { at += (count + TarHeader.size - 1) / TarHeader.size * TarHeader.size }
    return at..<at + count
  }

  /// Bytes that lie within the file.
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

  private func located<R>(
    _ start: Int, _ name: String?, _ body: () throws -> R
  ) throws -> R {
    do { return try body() } catch let problem as PaxRecords.Problem {
      throw failure("is damaged: \(problem.reason)", start, name)
    }
  }
}
