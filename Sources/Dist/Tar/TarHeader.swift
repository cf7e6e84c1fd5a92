/// A header of a tar archive: 512 bytes in the format of v7, ustar (POSIX) or GNU tar.
struct TarHeader {
  static let size = 512

  /// The bytes of the name, including ustar's prefix.
  let name: [UInt8]
  /// The type of the member: "0" is a file, "5" a folder, …
  let type: Unicode.Scalar
  /// The number of bytes that follow the header, without the padding of their last block.
  let count: Int
  /// True if blocks with more of a sparse file's map follow the header, as in GNU's old format.
  let isMapContinued: Bool

  /// - Parameter block: 512 bytes, not all of them zero.
  init(_ block: ArraySlice<UInt8>) throws(TarProblem) {
    let bytes = Array(block)
    // The checksum counts its own field as eight spaces. Old programs summed signed bytes.
    let sum = bytes[148..<156]
    let unsigned = bytes.reduce(0) { $0 + Int($1) } - sum.reduce(0) { $0 + Int($1) } + 8 * 32
    let signed = bytes.reduce(0) { $0 + Int(Int8(bitPattern: $1)) } - sum.reduce(0) { $0 + Int(Int8(bitPattern: $1)) }
    guard let stated = Self.number(sum) else { throw TarProblem(reason: "the checksum is not a number") }
    guard stated == unsigned || stated == signed + 8 * 32 else {
      throw TarProblem(reason: "the checksum says \(stated), the header's bytes add up to \(unsigned)")
    }
    guard let count = Self.number(bytes[124..<136]), count >= 0 else {
      throw TarProblem(reason: "its header has no valid size")
    }
    self.count = count
    type = Unicode.Scalar(bytes[156])
    let name = Self.text(bytes[0..<100])
    // "ustar" and a zero byte mark POSIX. GNU tar writes "ustar  " and uses the bytes of the prefix for other fields.
    let prefix = bytes[257..<263].elementsEqual("ustar\0".utf8) ? Self.text(bytes[345..<500]) : []
    self.name = prefix.isEmpty ? name : prefix + [UInt8(ascii: "/")] + name
    isMapContinued = type == "S" && bytes[482] != 0
  }

  /// Returns the bytes before the first zero.
  private static func text(_ field: ArraySlice<UInt8>) -> [UInt8] { Array(field.prefix { $0 != 0 }) }

  /// Parses octal digits between spaces and zeros, or a binary number with the highest bit set, as GNU's large ones.
  private static func number(_ field: ArraySlice<UInt8>) -> Int? {
    guard let first = field.first else { return nil }
    if first == 0x80 {
      return field.dropFirst().reduce(0 as Int?) { sum, byte in
        guard let sum, sum <= Int.max >> 8 else { return nil }
        return sum << 8 | Int(byte)
      }
    }
    let digits = field.drop { $0 == 0x20 }.prefix { $0 != 0 && $0 != 0x20 }
    guard field.dropFirst(digits.endIndex - field.startIndex).allSatisfy({ $0 == 0 || $0 == 0x20 }) else { return nil }
    // An empty field is zero.
    guard digits.allSatisfy({ (0x30...0x37).contains($0) }) else { return nil }
    return digits.reduce(0) { $0 << 3 | Int($1 & 7) }
  }
}

/// A pax header, which describes the next member in lines of a length, a key and a value: `18 path=longer.jpg`.
struct PaxRecords {
  private(set) var values: [String: [UInt8]] = [:]
  init() {}

  init(_ bytes: [UInt8]) throws(TarProblem) {
    var at = 0
    while at < bytes.count {
      let digits = bytes[at...].prefix { (0x30...0x39).contains($0) }
      guard (1...9).contains(digits.count), let count = Int(String(decoding: digits, as: UTF8.self)),
        count <= bytes.count - at, digits.endIndex < at + count, bytes[digits.endIndex] == 0x20,
        bytes[at + count - 1] == 0x0A
      else { throw TarProblem(reason: "its pax header is damaged at byte \(at)") }
      let record = bytes[(digits.endIndex + 1)..<(at + count - 1)]
      guard let sign = record.firstIndex(of: UInt8(ascii: "=")), sign > record.startIndex else {
        throw TarProblem(reason: "its pax header has a record without a key at byte \(at)")
      }
      values[String(decoding: record[..<sign], as: UTF8.self)] = Array(record[(sign + 1)...])
      at += count
    }
  }

  /// Adds the records of `other`, which replace records with the same keys. An empty value clears a record.
  mutating func merge(_ other: PaxRecords) { values.merge(other.values) { $1 } }

  /// The member's name, if the header has one. Sparse files have their real name in a record of their own.
  var path: [UInt8]? { (values["GNU.sparse.name"] ?? values["path"]).flatMap { $0.isEmpty ? nil : $0 } }

  /// Returns the member's size in bytes, if the header has one.
  func size() throws(TarProblem) -> Int? {
    guard let digits = values["size"], !digits.isEmpty else { return nil }
    guard digits.allSatisfy({ (0x30...0x39).contains($0) }), let size = Int(String(decoding: digits, as: UTF8.self))
    else { throw TarProblem(reason: "its pax header has no valid size") }
    return size
  }

  /// True if the member is a sparse file, whose bytes are a map and the pieces that are not empty.
  var isSparse: Bool { values.keys.contains { $0.hasPrefix("GNU.sparse.") } }
}

/// A mistake in a header, without the archive and the offset that `TarError` adds.
struct TarProblem: Error { let reason: String }
