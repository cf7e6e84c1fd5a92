internal import Tensor

/// The structure of an HDF5 file, which is checked before the library opens the file: altered headers crash the
/// library, or make it loop without end, even where all checksums are right.
///
/// Exactly the layouts that `HDF5File.create` makes are accepted, and the library writes the same ones since 1.10: a
/// superblock of version 0; object headers of version 1; groups with a symbol table (of groups only), with link
/// messages or, beyond eight members, with a fractal heap and a B-tree; contiguous data sets of our types; numbers and
/// strings as attributes. Of other programs' files, only those are accepted that h5py makes by default: a symbol table
/// of up to eight data sets, which get their space when they are written, and may hold strings. Each field that the
/// library reads must have a value that fits all others, and no two structures may share a byte. So each byte of
/// metadata is read once, nothing can loop, and the numbers of data sets are not read.
struct HDF5Structure {
  /// The address of what does not exist.
  static let nowhere = UInt64.max
  private static let signature: [UInt8] = [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]
  private static let superblockSize = 96
  /// The sizes of the user blocks before the superblock, from whose end addresses count.
  private static let userBlocks = [0, 512]
  /// Limits on the number of structures and on the bytes of one that is read: more than any file of ours has, and few
  /// enough that no file makes a reader wait or run out of memory.
  private static let (mostStructures, mostBytes) = (1 << 20, 64 << 20)

  private let file: OpenFile
  private let base: Int
  private let size: Int
  /// The end of each structure by its start, as offsets in the file.
  private var owned: [Int: Int] = [:]
  /// The fields that hold the addresses of objects whose headers are still to be checked.
  private var objects: [(link: HDF5Block, field: Int, isGroup: Bool?)] = []
  /// The lengths of the strings in each collection, by the collection's address and the string's number.
  var texts: [UInt64: [UInt64: UInt64]] = [:]

  /// Throws unless the file at `path` has the structure of our files; names the byte, and what it should be.
  static func check(_ path: String) throws(HDF5Error) {
    let file = try naming { () throws(FileError) in try OpenFile.reading(path) }
    let size = try naming { () throws(FileError) in try file.size() }
    for base in userBlocks where size >= base + superblockSize {
      let bytes = try naming { () throws(FileError) in try file.read(superblockSize, of: UInt8.self, at: base) }
      guard bytes.starts(with: signature) else { continue }
      var structure = HDF5Structure(file: file, base: base, size: size)
      return try structure.walk(HDF5Block(path: path, what: "the superblock", start: base, bytes: bytes))
    }
    throw HDF5Block(path: path, what: "the file", start: 0, bytes: []).refusal(
      0, "begins with no HDF5 superblock: it is truncated, or no HDF5 file")
  }

  private init(file: OpenFile, base: Int, size: Int) { (self.file, self.base, self.size) = (file, base, size) }

  private static func naming<R>(_ body: () throws(FileError) -> R) throws(HDF5Error) -> R {
    do throws(FileError) { return try body() } catch {
      throw HDF5Error(
        call: error.action, path: error.path, object: nil, cause: error.reason, status: error.status)
    }
  }

  private mutating func walk(_ superblock: HDF5Block) throws(HDF5Error) {
    owned[base] = base + superblock.count
    // Versions, the widths of addresses and lengths, the sizes of symbol tables, and no flags.
    try superblock.expect([0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, 0, 0, 0, 0, 0], at: 8)
    try superblock.expect(UInt64(base), "base address", at: 24)
    try superblock.expect(Self.nowhere, "address of free space", at: 32)
    try superblock.expect(UInt64(size), "end of the file", at: 40)
    try superblock.expect(Self.nowhere, "address of a driver", at: 48)
    // The root has no name. What follows its address is the table that it had when it was made.
    try superblock.expect([UInt8](repeating: 0, count: 8), at: 56)
    try superblock.expect([1, 0, 0, 0, 0, 0, 0, 0], at: 72)
    visit(superblock, 64, isGroup: true)
    while let next = objects.popLast() { try object(next.link, next.field, isGroup: next.isGroup) }
    if let shared = owned.map({ $0.key..<$0.value }).firstOverlap {
      throw HDF5Block(path: file.path, what: "a structure", start: shared, bytes: []).refusal(
        0, "begins within another one, expected no common bytes")
    }
  }

  /// Checks the object whose address is in `field` of `link` later, so that deep groups need no deep stack.
  /// With nil for `isGroup`, it may be a group or a data set.
  mutating func visit(_ link: HDF5Block, _ field: Int, isGroup: Bool?) { objects.append((link, field, isGroup)) }
  /// Returns the address of a structure, as other structures name it.
  func address(of block: HDF5Block) -> UInt64 { UInt64(block.start - base) }

  /// Takes the bytes from an address for one structure, and returns their offset in the file. Errors name the `field`
  /// of `link` that holds the address or the length.
  @discardableResult
  mutating func own(
    _ address: UInt64, _ length: UInt64, _ what: String, _ link: HDF5Block, _ field: Int
  ) throws(HDF5Error) -> Int {
    let end = UInt64(size - base)
    guard length > 0, address <= end, length <= end - address else {
      throw link.refusal(
        field, "places \(what) of \(length) bytes at address \(address), expected bytes before the file's end at \(end)"
      )
    }
    let start = base + Int(address)
    guard owned.updateValue(start + Int(length), forKey: start) == nil else {
      throw link.refusal(field, "places \(what) at address \(address), where another structure begins")
    }
    guard owned.count <= Self.mostStructures else {
      throw link.refusal(field, "places \(what), expected at most \(Self.mostStructures) structures in the file")
    }
    return start
  }

  /// Takes and reads the `length` bytes from `address`, or from the address in `field` of `link`.
  mutating func block(
    _ what: String, _ length: UInt64, at address: UInt64? = nil, _ link: HDF5Block, _ field: Int
  ) throws(HDF5Error) -> HDF5Block {
    guard length <= Self.mostBytes else {
      throw link.refusal(field, "gives \(what) \(length) bytes, expected at most \(Self.mostBytes)")
    }
    let start = try own(address ?? link.number(field), length, what, link, field)
    return try bytes(what, start, Int(length))
  }

  /// Reads bytes that a structure owns.
  func bytes(_ what: String, _ start: Int, _ count: Int) throws(HDF5Error) -> HDF5Block {
    let bytes = try Self.naming { () throws(FileError) in try file.read(count, of: UInt8.self, at: start) }
    return HDF5Block(path: file.path, what: what, start: start, bytes: bytes)
  }
}

/// The bytes of a structure, and their place in the file.
struct HDF5Block {
  let path: String
  /// The name of the structure, with its article.
  let what: String
  /// The offset of the bytes in the file.
  let start: Int
  let bytes: [UInt8]
  var count: Int { bytes.count }

  /// Returns the little-endian number of `width` bytes at `at`.
  func number(_ at: Int, _ width: Int = 8) -> UInt64 { bytes.little(width, at: at) }

  /// Returns `count` of the bytes as a structure of its own.
  func part(_ what: String, _ at: Int, _ count: Int) -> HDF5Block {
    HDF5Block(path: path, what: what, start: start + at, bytes: Array(bytes[at..<at + count]))
  }

  /// Returns the error that names the byte `at`. The reason continues a sentence that begins with the structure's name.
  func refusal(_ at: Int, _ reason: String) -> HDF5Error {
    HDF5Error(call: "check", path: path, object: "byte \(start + at)", cause: "\(what) \(reason)", status: .badData)
  }

  func require(_ fact: Bool, at: Int, _ reason: @autoclosure () -> String) throws(HDF5Error) {
    guard fact else { throw refusal(at, reason()) }
  }

  /// Throws unless the bytes from `at` are `expected`.
  func expect(_ expected: [UInt8], at: Int) throws(HDF5Error) {
    guard let wrong = expected.indices.first(where: { at + $0 >= count || bytes[at + $0] != expected[$0] }) else {
      return
    }
    let found = at + wrong < count ? "the value \(bytes[at + wrong])" : "no byte"
    throw refusal(at + wrong, "has \(found) there, expected \(expected[wrong])")
  }

  /// Throws unless the number of `width` bytes at `at` is `expected`.
  func expect(_ expected: UInt64, _ name: String, at: Int, _ width: Int = 8) throws(HDF5Error) {
    let found = number(at, width)
    guard found == expected else { throw refusal(at, "has the \(name) \(found), expected \(expected)") }
  }

  /// Throws unless there are `expected` bytes.
  func expect(count expected: Int) throws(HDF5Error) {
    guard count == expected else { throw refusal(0, "has \(count) bytes, expected \(expected)") }
  }

  /// Throws unless all bytes from `at` on are zero.
  func expectZeros(from at: Int) throws(HDF5Error) {
    try expect([UInt8](repeating: 0, count: max(count - at, 0)), at: at)
  }

  /// Throws unless the four bytes at `at` are the checksum of the others.
  func expectChecksum(at: Int) throws(HDF5Error) {
    var covered = bytes
    // A checksum within the bytes that it covers counts as zeros; one at their end is not covered.
    if at + 4 < count { covered.replaceSubrange(at..<at + 4, with: [0, 0, 0, 0]) } else { covered.removeLast(4) }
    try expect(UInt64(lookup3(covered)), "checksum", at: at, 4)
  }

  /// Returns the name of a member or an attribute, whose bytes must be text.
  func name(_ at: Int, _ count: Int) throws(HDF5Error) -> String {
    let name = bytes[at..<at + count]
    guard let text = String(validating: name, as: UTF8.self), !name.isEmpty, !name.contains(0) else {
      throw refusal(at, "has a name of \(count) bytes that is no text, expected UTF-8 without zeros")
    }
    return text
  }

  /// Returns the name of a group's member, which no path could contain if it held a slash.
  func memberName(_ at: Int, _ count: Int) throws(HDF5Error) -> String {
    let name = try name(at, count)
    try require(!name.utf8.contains(0x2F) && name != ".", at: at, "has the name \(name), expected one without a slash")
    return name
  }
}

extension [Range<Int>] {
  /// The start of a range that begins within another one, or nil if no two have a number in common.
  var firstOverlap: Int? {
    let sorted = sorted { $0.lowerBound < $1.lowerBound }
    return zip(sorted, sorted.dropFirst()).first { $1.lowerBound < $0.upperBound }?.1.lowerBound
  }
}
