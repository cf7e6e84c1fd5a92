/// One header of a tar: 512 bytes in the form of v7, ustar (POSIX) or GNU tar.
struct TarHeader {
  static let size = 512

  /// The name's bytes, with ustar's prefix before them.
  let name: [UInt8]
  /// The byte that says what the member is: "0" a file, "5" a folder, …
  let type: UInt8
  /// Bytes that follow the header, without what fills their last block.
  let count: Int
  /// Whether the blocks of a sparse file's map go on behind the header: GNU's old form.
  let mapGoesOn: Bool

  struct Problem: Error {
    let reason: String
  }

  /// - Parameter block: 512 bytes, not all of them zero.
  init(_ block: ArraySlice<UInt8>) throws(Problem) {
    let bytes = Array(block)
    // The sum counts itself as eight spaces. Old programs took bytes for signed numbers.
    let sum = bytes[148..<156]
    let unsigned = bytes.reduce(0) { $0 + Int($1) } - sum.reduce(0) { $0 + Int($1) } + 8 * 32
    let signed = bytes.reduce(0) { $0 + Int(Int8(bitPattern: $1)) } - sum.reduce(0) { $0 + Int(Int8(bitPattern: $1)) }
    guard let stated = Self.number(sum) else { throw Problem(reason: "the checksum is no number") }
    guard stated == unsigned || stated == signed + 8 * 32 else {
      throw Problem(reason: "the checksum says \(stated), the header's bytes add up to \(unsigned)")
    }
    guard let count = Self.number(bytes[124..<136]), count >= 0 else {
      throw Problem(reason: "its header gives no size")
    }
    self.count = count
    type = bytes[156]
    let name = Self.text(bytes[0..<100])
    // "ustar" and a zero byte is POSIX; GNU writes "ustar  " and keeps other things where the prefix is.
    let prefix = bytes[257..<263].elementsEqual("ustar\0".utf8) ? Self.text(bytes[345..<500]) : []
    self.name = prefix.isEmpty ? name : prefix + [UInt8(ascii: "/")] + name
    mapGoesOn = type == UInt8(ascii: "S") && bytes[482] != 0
  }

  /// The bytes before the first zero.
  private static func text(_ field: ArraySlice<UInt8>) -> [UInt8] { Array(field.prefix { $0 != 0 }) }

  /// Octal digits between spaces and zeros, or, with the highest bit set, a binary number as GNU writes large ones.
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
    // A field that nobody filled in is zero.
    guard digits.allSatisfy({ (0x30...0x37).contains($0) }) else { return nil }
    return digits.reduce(0) { $0 << 3 | Int($1 & 7) }
  }
}
