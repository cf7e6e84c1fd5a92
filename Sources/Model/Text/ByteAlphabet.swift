/// The printable characters that stand for the 256 bytes in a vocabulary file.
///
/// Printable bytes of Latin-1 stand for themselves; the other 68, in order, are U+0100 and up. The order of the ids is
/// the printable ones first.
enum ByteAlphabet {
  /// By id: the byte.
  static let bytes: [UInt8] = {
    let printable = Array(UInt8(0x21)...0x7E) + Array(0xA1...0xAC) + Array(0xAE...0xFF)
    return printable + (UInt8.min...UInt8.max).filter { !printable.contains($0) }
  }()

  /// By byte: the id.
  static let ids: [Int32] = {
    var ids = [Int32](repeating: 0, count: 256)
    for (id, byte) in bytes.enumerated() { ids[Int(byte)] = Int32(id) }
    return ids
  }()

  /// By id: the character.
  static let characters: [Unicode.Scalar] = bytes.enumerated().map { id, byte in
    id < 188 ? Unicode.Scalar(byte) : Unicode.Scalar(UInt16(256 + id - 188)) ?? "\u{FFFD}"
  }
}
