/// Images for tests, made on the spot.
enum TestImage {
  /// Returns a valid PNG of one colour.
  static func png(width: Int = 4, height: Int = 4, color: (UInt8, UInt8, UInt8) = (200, 30, 60)) -> [UInt8] {
    let row: [UInt8] = [0] + (0..<width).flatMap { _ in [color.0, color.1, color.2] }
    let pixels = (0..<height).flatMap { _ in row }
    return file(width: width, height: height, data: zlib(pixels))
  }

  /// Returns a PNG whose header claims a size that its few bytes of data do not hold.
  static func claiming(width: Int, height: Int) -> [UInt8] { file(width: width, height: height, data: zlib([0])) }

  private static func file(width: Int, height: Int, data: [UInt8]) -> [UInt8] {
    let header = big(UInt32(width)) + big(UInt32(height)) + [8, 2, 0, 0, 0]
    return [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A] + chunk("IHDR", header) + chunk("IDAT", data)
      + chunk("IEND", [])
  }

  private static func chunk(_ name: String, _ data: [UInt8]) -> [UInt8] {
    let body = Array(name.utf8) + data
    var crc: UInt32 = 0xFFFF_FFFF
    for byte in body {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
    }
    return big(UInt32(data.count)) + body + big(~crc)
  }

  /// Returns the zlib form of at most 65,535 bytes, stored and not compressed.
  private static func zlib(_ bytes: [UInt8]) -> [UInt8] {
    let count = UInt16(bytes.count)
    var a: UInt32 = 1
    var b: UInt32 = 0
    for byte in bytes {
      a = (a + UInt32(byte)) % 65_521
      b = (b + a) % 65_521
    }
    let length = [UInt8(count & 0xFF), UInt8(count >> 8), UInt8(~count & 0xFF), UInt8(~count >> 8)]
    return [0x78, 0x01, 0x01] + length + bytes + big(b << 16 | a)
  }

  private static func big(_ value: UInt32) -> [UInt8] {
    [UInt8(value >> 24), UInt8(value >> 16 & 0xFF), UInt8(value >> 8 & 0xFF), UInt8(value & 0xFF)]
  }
}
