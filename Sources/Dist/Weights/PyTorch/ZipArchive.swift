/// Where the entries of a zip archive lie: those that are stored as they are, as torch.save writes them.
///
/// Everything is held against the file's size, and no two entries may share a byte. Entries are found by their names in
/// this table alone: no name is ever a path. Checksums are not looked at, for torch can be told to leave them out.
struct ZipArchive: Sendable {
  enum Failure: Error {
    case damaged(String)
    case file(FileError)
  }

  /// The bytes of each entry in the file.
  let entries: [String: Range<Int>]
  /// The first entry that is not stored as it is, if there is one.
  let compressed: String?

  /// More than any model has; a longer table is a broken or hostile file.
  private static let longestDirectory = 100_000_000

  init(_ file: OpenFile) throws(Failure) {
    let reader = Reader(file: file, size: try Self.wrapping(file.size))
    let directory = try reader.directory()
    var entries: [String: Range<Int>] = [:]
    var places: [(name: String, range: Range<Int>)] = []
    var compressed: String?
    var at = 0
    let table = try reader.bytes(directory.range)
    for _ in 0..<directory.count {
      let record = try Record(table, &at)
      let (start, data) = try reader.data(of: record, before: directory.range.lowerBound)
      guard entries.updateValue(data, forKey: record.name) == nil else {
        throw .damaged("two of its entries have the name \(record.name)")
      }
      if record.isCompressed { compressed = compressed ?? record.name }
      places.append((record.name, start..<data.upperBound))
    }
    guard at == table.count else { throw .damaged("its table has \(table.count - at) bytes behind the last entry") }
    places.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
    for (one, next) in zip(places, places.dropFirst()) where next.range.lowerBound < one.range.upperBound {
      throw .damaged("the bytes of its entry \(next.name) overlap those of \(one.name)")
    }
    self.entries = entries
    self.compressed = compressed
  }

  fileprivate static func wrapping<R>(_ body: () throws(FileError) -> R) throws(Failure) -> R {
    do throws(FileError) {
      return try body()
    } catch { throw .file(error) }
  }

  /// One line of the table at the archive's end.
  struct Record {
    let name: String
    /// In the archive.
    let size: Int
    let isCompressed: Bool
    /// Where its local header begins.
    let header: Int

    private static let fixed = 46

    /// Reads the record at `at` and moves `at` behind it.
    init(_ table: [UInt8], _ at: inout Int) throws(Failure) {
      guard table.count - at >= Self.fixed, table.little(at, 4) == 0x0201_4B50 else {
        throw .damaged("its table of entries is not whole")
      }
      let (flags, method) = (table.little(at + 8, 2), table.little(at + 10, 2))
      var packed = table.little(at + 20, 4)
      var size = table.little(at + 24, 4)
      let (nameLength, extraLength) = (Int(table.little(at + 28, 2)), Int(table.little(at + 30, 2)))
      let commentLength = Int(table.little(at + 32, 2))
      var header = table.little(at + 42, 4)
      let names = at + Self.fixed
      guard table.count - names >= nameLength + extraLength + commentLength else {
        throw .damaged("its table of entries is not whole")
      }
      guard let name = String(validating: table[names..<names + nameLength], as: UTF8.self) else {
        throw .damaged("the name of an entry is not UTF-8")
      }
      guard !name.hasPrefix("/"), !name.contains("\\"), !name.split(separator: "/").contains("..") else {
        throw .damaged("it has an entry named \(name), which leads out of its folder")
      }
      try Self.widen(
        table[names + nameLength..<names + nameLength + extraLength], name, &size, &packed, &header)
      guard flags & 1 == 0 else { throw .damaged("its entry \(name) is encrypted") }
      guard method != 0 || size == packed, let size = Int(exactly: packed), let header = Int(exactly: header) else {
        throw .damaged("its entry \(name) claims two sizes, \(size) and \(packed), or a place beyond all files")
      }
      isCompressed = method != 0
      self.name = name
      self.size = size
      self.header = header
      at = names + nameLength + extraLength + commentLength
    }

    /// Numbers of eight bytes stand in an extra field, in this order, where the short ones are all ones.
    private static func widen(
      _ extra: ArraySlice<UInt8>, _ name: String, _ size: inout UInt64, _ packed: inout UInt64, _ header: inout UInt64
    ) throws(Failure) {
      let extra = Array(extra)
      var at = 0
      while extra.count - at >= 4 {
        let (id, length) = (extra.little(at, 2), Int(extra.little(at + 2, 2)))
        at += 4
        guard extra.count - at >= length else { throw .damaged("the extra fields of its entry \(name) are not whole") }
        defer { at += length }
        guard id == 1 else { continue }
        var (from, end) = (at, at + length)
        func take(_ value: inout UInt64) throws(Failure) {
          guard value == 0xFFFF_FFFF else { return }
          guard end - from >= 8 else { throw .damaged("the extra fields of its entry \(name) are not whole") }
          value = extra.little(from, 8)
          from += 8
        }
        try take(&size)
        try take(&packed)
        try take(&header)
        end = from
      }
    }
  }

  /// Reads what lies about the entries.
  private struct Reader {
    let file: OpenFile
    let size: Int

    func bytes(_ range: Range<Int>) throws(Failure) -> [UInt8] {
      try ZipArchive.wrapping { () throws(FileError) in
        try file.read(range.count, of: UInt8.self, at: range.lowerBound)
      }
    }

    /// Where the table of entries lies, and how many it has.
    func directory() throws(Failure) -> (range: Range<Int>, count: Int) {
      // The end record has 22 bytes and a comment of up to 65,535.
      let tail = try bytes(max(0, size - 22 - 65_535)..<size)
      let start = size - tail.count
      guard
        let end = stride(from: tail.count - 22, through: 0, by: -1).first(where: {
          tail.little($0, 4) == 0x0605_4B50 && $0 + 22 + Int(tail.little($0 + 20, 2)) == tail.count
        })
      else { throw .damaged("it has no table of entries at its end: it is truncated, or no zip archive") }
      var (count, length) = (tail.little(end + 10, 2), tail.little(end + 12, 4))
      var offset = tail.little(end + 16, 4)
      if count == 0xFFFF || length == 0xFFFF_FFFF || offset == 0xFFFF_FFFF {
        (count, length, offset) = try wideDirectory(before: start + end)
      }
      guard length <= longestDirectory, count <= length / 46 else {
        throw .damaged("its table claims \(count) entries in \(length) bytes")
      }
      guard offset <= UInt64(start + end), length <= UInt64(start + end) - offset else {
        throw .damaged("its table claims the bytes from \(offset), \(length) of them, and ends at \(start + end)")
      }
      return (Int(offset)..<Int(offset + length), Int(count))
    }

    /// The same of an archive beyond four gigabytes, whose record lies where a locator before the end record says.
    private func wideDirectory(before end: Int) throws(Failure) -> (UInt64, UInt64, UInt64) {
      guard end >= 20 + 56 else { throw .damaged("its record for large archives is missing") }
      let locator = try bytes(end - 20..<end)
      let place = locator.little(8, 8)
      guard locator.little(0, 4) == 0x0706_4B50, place <= UInt64(end - 20 - 56) else {
        throw .damaged("its record for large archives is missing")
      }
      let record = try bytes(Int(place)..<Int(place) + 56)
      guard record.little(0, 4) == 0x0606_4B50 else { throw .damaged("its record for large archives is missing") }
      return (record.little(32, 8), record.little(40, 8), record.little(48, 8))
    }

    /// Where an entry begins with its local header, and where its bytes are. `limit` is where the table begins.
    func data(of record: Record, before limit: Int) throws(Failure) -> (start: Int, data: Range<Int>) {
      let name = record.name
      guard record.header <= limit - 30 else {
        throw .damaged("its entry \(name) begins at byte \(record.header), behind all entries")
      }
      let local = try bytes(record.header..<record.header + 30)
      guard local.little(0, 4) == 0x0403_4B50 else {
        throw .damaged("nothing begins at byte \(record.header), where its entry \(name) should")
      }
      let start = record.header + 30 + Int(local.little(26, 2)) + Int(local.little(28, 2))
      guard start <= limit, record.size <= limit - start else {
        throw .damaged("its entry \(name) claims \(record.size) bytes from \(start), beyond all entries at \(limit)")
      }
      return (record.header, start..<start + record.size)
    }
  }
}

extension [UInt8] {
  /// The little-endian number of `count` bytes at `at`.
  fileprivate func little(_ at: Int, _ count: Int) -> UInt64 {
    self[at..<at + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
