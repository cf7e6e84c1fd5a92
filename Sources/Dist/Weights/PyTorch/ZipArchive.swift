/// The ranges of the entries of a zip archive that are stored without compression, as torch.save writes them.
///
/// Every offset is checked against the file's size, and no two entries may share a byte. Names are looked up in this
/// table only and are never used as paths. Checksums are ignored, because torch.save can be told to leave them out.
struct ZipArchive: Sendable {
  enum Failure: Error {
    case damaged(String)
    case file(FileError)
  }

  /// The range of each entry's bytes in the file.
  let entries: [String: Range<Int>]
  /// The first compressed entry, if there is one.
  let compressed: String?

  /// The limit on the table's size in bytes, more than any model has. A longer table is broken or hostile.
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
    guard at == table.count else { throw .damaged("its table has \(table.count - at) bytes after the last entry") }
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

  /// A record of the table at the archive's end.
  struct Record {
    let name: String
    /// The size in the archive in bytes.
    let size: Int
    let isCompressed: Bool
    /// The offset of its local header.
    let header: Int

    private static let fixed = 46

    /// Reads the record at `at` and moves `at` past it.
    init(_ table: [UInt8], _ at: inout Int) throws(Failure) {
      guard table.count - at >= Self.fixed, table.little(4, at: at) == 0x0201_4B50 else {
        throw .damaged("its table of entries is truncated")
      }
      let (flags, method) = (table.little(2, at: at + 8), table.little(2, at: at + 10))
      var packed = table.little(4, at: at + 20)
      var size = table.little(4, at: at + 24)
      let (nameLength, extraLength) = (Int(table.little(2, at: at + 28)), Int(table.little(2, at: at + 30)))
      let commentLength = Int(table.little(2, at: at + 32))
      var header = table.little(4, at: at + 42)
      let names = at + Self.fixed
      guard table.count - names >= nameLength + extraLength + commentLength else {
        throw .damaged("its table of entries is truncated")
      }
      guard let name = String(validating: table[names..<names + nameLength], as: UTF8.self) else {
        throw .damaged("the name of an entry is not UTF-8")
      }
      guard !name.hasPrefix("/"), !name.contains("\\"), !name.split(separator: "/").contains("..") else {
        throw .damaged("it has an entry named \(name), which leads out of its folder")
      }
      try Self.widen(
        table[names + nameLength..<names + nameLength + extraLength], name, size: &size, packed: &packed,
        header: &header)
      guard flags & 1 == 0 else { throw .damaged("its entry \(name) is encrypted") }
      guard method != 0 || size == packed, let size = Int(exactly: packed), let header = Int(exactly: header) else {
        throw .damaged("its entry \(name) claims two sizes, \(size) and \(packed), or an offset beyond any file")
      }
      isCompressed = method != 0
      self.name = name
      self.size = size
      self.header = header
      at = names + nameLength + extraLength + commentLength
    }

    /// Replaces numbers whose bits are all ones by numbers of eight bytes from an extra field, where they have this
    /// order.
    private static func widen(
      _ extra: ArraySlice<UInt8>, _ name: String, size: inout UInt64, packed: inout UInt64, header: inout UInt64
    ) throws(Failure) {
      let extra = Array(extra)
      var at = 0
      while extra.count - at >= 4 {
        let (id, length) = (extra.little(2, at: at), Int(extra.little(2, at: at + 2)))
        at += 4
        guard extra.count - at >= length else { throw .damaged("the extra fields of its entry \(name) are truncated") }
        defer { at += length }
        guard id == 1 else { continue }
        var (from, end) = (at, at + length)
        func take(_ value: inout UInt64) throws(Failure) {
          guard value == 0xFFFF_FFFF else { return }
          guard end - from >= 8 else { throw .damaged("the extra fields of its entry \(name) are truncated") }
          value = extra.little(8, at: from)
          from += 8
        }
        try take(&size)
        try take(&packed)
        try take(&header)
        end = from
      }
    }
  }

  /// Reads the archive's own structures.
  private struct Reader {
    let file: OpenFile
    let size: Int

    func bytes(_ range: Range<Int>) throws(Failure) -> [UInt8] {
      try ZipArchive.wrapping { () throws(FileError) in
        try file.read(range.count, of: UInt8.self, at: range.lowerBound)
      }
    }

    /// Returns the range of the table of entries, and their number.
    func directory() throws(Failure) -> (range: Range<Int>, count: Int) {
      // The end record has 22 bytes and a comment of up to 65,535.
      let tail = try bytes(max(0, size - 22 - 65_535)..<size)
      let start = size - tail.count
      guard
        let end = stride(from: tail.count - 22, through: 0, by: -1).first(where: {
          tail.little(4, at: $0) == 0x0605_4B50 && $0 + 22 + Int(tail.little(2, at: $0 + 20)) == tail.count
        })
      else { throw .damaged("it has no table of entries at its end: it is truncated, or not a zip archive") }
      var (count, length) = (tail.little(2, at: end + 10), tail.little(4, at: end + 12))
      var offset = tail.little(4, at: end + 16)
      if count == 0xFFFF || length == 0xFFFF_FFFF || offset == 0xFFFF_FFFF {
        (count, length, offset) = try wideDirectory(before: start + end)
      }
      guard length <= longestDirectory, count <= length / 46 else {
        throw .damaged("its table claims \(count) entries in \(length) bytes")
      }
      guard offset <= UInt64(start + end), length <= UInt64(start + end) - offset else {
        throw .damaged("its table claims \(length) bytes from \(offset), but ends at \(start + end)")
      }
      return (Int(offset)..<Int(offset + length), Int(count))
    }

    /// Returns the same of an archive beyond four gigabytes. A locator before the end record has its record's offset.
    private func wideDirectory(
      before end: Int
    ) throws(Failure) -> (count: UInt64, length: UInt64, offset: UInt64) {
      guard end >= 20 + 56 else { throw .damaged("its record for large archives is missing") }
      let locator = try bytes(end - 20..<end)
      let place = locator.little(8, at: 8)
      guard locator.little(4, at: 0) == 0x0706_4B50, place <= UInt64(end - 20 - 56) else {
        throw .damaged("its record for large archives is missing")
      }
      let record = try bytes(Int(place)..<Int(place) + 56)
      guard record.little(4, at: 0) == 0x0606_4B50 else { throw .damaged("its record for large archives is missing") }
      return (record.little(8, at: 32), record.little(8, at: 40), record.little(8, at: 48))
    }

    /// Returns the offset of an entry's local header, and the range of its bytes. The table begins at `limit`.
    func data(of record: Record, before limit: Int) throws(Failure) -> (start: Int, data: Range<Int>) {
      let name = record.name
      guard record.header <= limit - 30 else {
        throw .damaged("its entry \(name) begins at byte \(record.header), after all entries")
      }
      let local = try bytes(record.header..<record.header + 30)
      guard local.little(4, at: 0) == 0x0403_4B50 else {
        throw .damaged("no entry begins at byte \(record.header), where its entry \(name) should")
      }
      let start = record.header + 30 + Int(local.little(2, at: 26)) + Int(local.little(2, at: 28))
      guard start <= limit, record.size <= limit - start else {
        throw .damaged("its entry \(name) claims \(record.size) bytes from \(start), beyond all entries at \(limit)")
      }
      return (record.header, start..<start + record.size)
    }
  }
}

extension [UInt8] {
  /// Returns the little-endian number of `count` bytes at `at`.
  func little(_ count: Int, at: Int) -> UInt64 {
    self[at..<at + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
