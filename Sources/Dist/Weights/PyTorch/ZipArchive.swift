internal import Tensor

/// The ranges of the entries of a zip archive that are stored without compression, as torch.save writes them.
///
/// Every offset is checked against the file's size, and no two entries may share a byte. Names are looked up in this
/// table only and are never used as paths. Checksums are ignored, because torch.save can be told to leave them out.
struct ZipArchive {
  /// The range of each entry's bytes in the file.
  private(set) var entries: [String: Range<Int>] = [:]
  /// The first compressed entry, if there is one.
  private(set) var compressed: String?
  private let file: OpenFile
  /// The limit on the table's size in bytes, more than any model has. A longer table is broken or hostile.
  private static let longestDirectory = 100_000_000

  init(_ file: OpenFile) throws(PyTorchError) {
    self.file = file
    let (range, count) = try directory()
    let table = try bytes(range)
    var places: [(name: String, range: Range<Int>)] = []
    var at = 0
    for _ in 0..<count {
      let record = try record(table, &at)
      let data = try data(of: record, before: range.lowerBound)
      guard entries.updateValue(data, forKey: record.name) == nil else {
        throw problem("two of its entries have the name \(record.name)")
      }
      if record.isCompressed { compressed = compressed ?? record.name }
      places.append((record.name, record.header..<data.upperBound))
    }
    guard at == table.count else { throw problem("its table has \(table.count - at) bytes after the last entry") }
    places.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
    for (one, next) in zip(places, places.dropFirst()) where next.range.lowerBound < one.range.upperBound {
      throw problem("the bytes of its entry \(next.name) overlap those of \(one.name)")
    }
  }

  private func problem(_ reason: String) -> PyTorchError { PyTorchError(path: file.path, reason: reason) }
  private func bytes(_ range: Range<Int>) throws(PyTorchError) -> [UInt8] { try PyTorchError.bytes(range, of: file) }

  /// Returns the range of the table of entries, and their number.
  private func directory() throws(PyTorchError) -> (range: Range<Int>, count: Int) {
    let size = try PyTorchError.naming(file.path, file.size)
    // The end record has 22 bytes and a comment of up to 65,535.
    let tail = try bytes(max(0, size - 22 - 65_535)..<size)
    let records = stride(from: tail.count - 22, through: 0, by: -1)
    let found = records.first { at in
      tail.little(4, at: at) == 0x0605_4B50 && at + 22 + Int(tail.little(2, at: at + 20)) == tail.count
    }
    guard let at = found else {
      throw problem("it has no table of entries at its end: it is truncated, or not a zip archive")
    }
    let end = size - tail.count + at
    var (count, length) = (tail.little(2, at: at + 10), tail.little(4, at: at + 12))
    var offset = tail.little(4, at: at + 16)
    if count == 0xFFFF || length == 0xFFFF_FFFF || offset == 0xFFFF_FFFF {
      (count, length, offset) = try wideDirectory(before: end)
    }
    guard length <= Self.longestDirectory, count <= length / 46 else {
      throw problem("its table claims \(count) entries in \(length) bytes")
    }
    guard offset <= UInt64(end), length <= UInt64(end) - offset else {
      throw problem("its table claims \(length) bytes from \(offset), but ends at \(end)")
    }
    return (Int(offset)..<Int(offset + length), Int(count))
  }

  /// Returns the same of an archive beyond four gigabytes. A locator before the end record has its record's offset.
  private func wideDirectory(
    before end: Int
  ) throws(PyTorchError) -> (count: UInt64, length: UInt64, offset: UInt64) {
    let missing = problem("its record for large archives is missing")
    guard end >= 20 + 56 else { throw missing }
    let locator = try bytes(end - 20..<end)
    let place = locator.little(8, at: 8)
    guard locator.little(4, at: 0) == 0x0706_4B50, place <= UInt64(end - 20 - 56) else { throw missing }
    let record = try bytes(Int(place)..<Int(place) + 56)
    guard record.little(4, at: 0) == 0x0606_4B50 else { throw missing }
    return (record.little(8, at: 32), record.little(8, at: 40), record.little(8, at: 48))
  }

  /// A record of the table at the archive's end: the size in the archive in bytes, and the offset of its local header.
  private typealias Record = (name: String, size: Int, isCompressed: Bool, header: Int)

  /// Reads the record at `at` and moves `at` past it.
  private func record(_ table: [UInt8], _ at: inout Int) throws(PyTorchError) -> Record {
    let fixed = 46
    let truncated = problem("its table of entries is truncated")
    guard table.count - at >= fixed, table.little(4, at: at) == 0x0201_4B50 else { throw truncated }
    let (flags, method) = (table.little(2, at: at + 8), table.little(2, at: at + 10))
    let lengths = [28, 30, 32].map { Int(table.little(2, at: at + $0)) }  // of name, extra fields and comment
    // The size of the contents, that in the archive, and the offset.
    var numbers = [24, 20, 42].map { table.little(4, at: at + $0) }
    at += fixed
    guard table.count - at >= lengths.reduce(0, +) else { throw truncated }
    guard let name = String(validating: table[at..<at + lengths[0]], as: UTF8.self) else {
      throw problem("the name of an entry is not UTF-8")
    }
    guard !name.hasPrefix("/"), !name.contains("\\"), !name.split(separator: "/").contains("..") else {
      throw problem("it has an entry named \(name), which leads out of its folder")
    }
    try widen(&numbers, from: Array(table[at + lengths[0]..<at + lengths[0] + lengths[1]]), name)
    guard flags & 1 == 0 else { throw problem("its entry \(name) is encrypted") }
    let isCompressed = method != 0
    guard isCompressed || numbers[0] == numbers[1], let size = Int(exactly: numbers[1]),
      let header = Int(exactly: numbers[2])
    else {
      throw problem("its entry \(name) claims two sizes, \(numbers[0]) and \(numbers[1]), or an offset beyond any file")
    }
    at += lengths.reduce(0, +)
    return (name, size, isCompressed, header)
  }

  /// Replaces numbers whose bits are all ones by numbers of eight bytes from an extra field, in this order.
  private func widen(_ numbers: inout [UInt64], from extra: [UInt8], _ name: String) throws(PyTorchError) {
    let truncated = problem("the extra fields of its entry \(name) are truncated")
    var at = 0
    while extra.count - at >= 4 {
      let (id, end) = (extra.little(2, at: at), at + 4 + Int(extra.little(2, at: at + 2)))
      at += 4
      guard end <= extra.count else { throw truncated }
      for index in numbers.indices where id == 1 && numbers[index] == 0xFFFF_FFFF {
        guard end - at >= 8 else { throw truncated }
        numbers[index] = extra.little(8, at: at)
        at += 8
      }
      at = end
    }
  }

  /// Returns the range of an entry's bytes. The table begins at `limit`.
  private func data(of record: Record, before limit: Int) throws(PyTorchError) -> Range<Int> {
    let name = record.name
    guard record.header <= limit - 30 else {
      throw problem("its entry \(name) begins at byte \(record.header), after all entries")
    }
    let local = try bytes(record.header..<record.header + 30)
    guard local.little(4, at: 0) == 0x0403_4B50 else {
      throw problem("no entry begins at byte \(record.header), where its entry \(name) should")
    }
    let start = record.header + 30 + Int(local.little(2, at: 26)) + Int(local.little(2, at: 28))
    guard start <= limit, record.size <= limit - start else {
      throw problem("its entry \(name) claims \(record.size) bytes from \(start), beyond all entries at \(limit)")
    }
    return start..<start + record.size
  }
}
