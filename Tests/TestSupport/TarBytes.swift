/// Tar files for tests, assembled byte by byte, including some that no program would write.
public enum TarBytes {
  /// Returns a header block in ustar format.
  public static func header(
    _ name: String, size: Int = 0, type: Character = "0", sizeField: [UInt8]? = nil, magic: String = "ustar\u{0}00",
    prefix: String = ""
  ) -> [UInt8] {
    var block = [UInt8](repeating: 0, count: 512)
    func set(_ at: Int, _ bytes: some Sequence<UInt8>) {
      for (index, byte) in bytes.enumerated() { block[at + index] = byte }
    }
    set(0, name.utf8.prefix(100))
    set(100, "0000644\0".utf8)
    set(124, sizeField ?? octal(size, 11))
    set(136, octal(0, 11))
    set(156, type == "\u{0}" ? [0] : Array(type.utf8))
    set(257, magic.utf8)
    set(345, prefix.utf8)
    return summed(block)
  }

  /// Returns the header with the correct checksum.
  public static func summed(_ header: [UInt8]) -> [UInt8] {
    var block = header
    for index in 148..<156 { block[index] = 0x20 }
    let sum = block.reduce(0) { $0 + Int($1) }
    for (index, byte) in (octal(sum, 6) + [0x20]).enumerated() { block[148 + index] = byte }
    return block
  }

  /// Returns the header and the contents of a member, padded to whole blocks.
  public static func member(_ name: String, _ bytes: some Collection<UInt8>, type: Character = "0") -> [UInt8] {
    header(name, size: bytes.count, type: type) + blocks(bytes)
  }

  /// Returns the bytes padded with zeros to whole blocks.
  public static func blocks(_ bytes: some Collection<UInt8>) -> [UInt8] {
    Array(bytes) + [UInt8](repeating: 0, count: (512 - bytes.count % 512) % 512)
  }

  /// The two blocks of zeros at the end of a tar file.
  public static let end = [UInt8](repeating: 0, count: 1024)

  /// Returns a pax record, which begins with its own length.
  public static func record(_ key: String, _ value: String) -> String {
    let rest = " \(key)=\(value)\n".utf8.count
    var length = rest
    while length != rest + String(length).utf8.count { length = rest + String(length).utf8.count }
    return "\(length) \(key)=\(value)\n"
  }

  /// Returns the number in at least `digits` octal digits, followed by a zero byte.
  public static func octal(_ value: Int, _ digits: Int) -> [UInt8] {
    let text = String(value, radix: 8)
    return Array((String(repeating: "0", count: max(digits - text.count, 0)) + text).utf8) + [0]
  }
}
