/// Encodes PNG files for tests, without compression.
public enum PNGImage {
  /// Returns the file of an image whose pixels are `rgb`, [height, width, 3].
  public static func encode(width: Int, height: Int, rgb: [UInt8]) -> [UInt8] {
    encode(width: width, height: height, samples: rgb, of: 3)
  }

  /// Returns the file of an image whose pixels are `rgba`, [height, width, 4].
  public static func encode(width: Int, height: Int, rgba: [UInt8]) -> [UInt8] {
    encode(width: width, height: height, samples: rgba, of: 4)
  }

  private static func encode(width: Int, height: Int, samples: [UInt8], of channels: Int) -> [UInt8] {
    let row = channels * width
    precondition(samples.count == row * height)
    var file: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
    // The format's numbers of colour without and with alpha are 2 and 6.
    file += chunk("IHDR", bytes(UInt32(width)) + bytes(UInt32(height)) + [8, channels == 4 ? 6 : 2, 0, 0, 0])
    // Every row begins with the number of its filter: 0, which means none.
    var rows: [UInt8] = []
    for y in 0..<height { rows += [0] + samples[y * row..<(y + 1) * row] }
    file += chunk("IDAT", stored(rows))
    return file + chunk("IEND", [])
  }

  /// Returns a zlib stream of stored blocks.
  private static func stored(_ data: [UInt8]) -> [UInt8] {
    var stream: [UInt8] = [0x78, 0x01]
    for start in stride(from: 0, to: data.count, by: 65_535) {
      let block = data[start..<min(start + 65_535, data.count)]
      let length = UInt16(block.count)
      stream.append(start + block.count == data.count ? 1 : 0)
      for part in [length, ~length] { stream += [UInt8(truncatingIfNeeded: part), UInt8(part >> 8)] }
      stream += block
    }
    var (a, b): (UInt32, UInt32) = (1, 0)
    for byte in data {
      a = (a + UInt32(byte)) % 65_521
      b = (b + a) % 65_521
    }
    return stream + bytes(b << 16 | a)
  }

  private static func chunk(_ name: String, _ data: [UInt8]) -> [UInt8] {
    let body = Array(name.utf8) + data
    var crc: UInt32 = .max
    for byte in body {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
    }
    return bytes(UInt32(data.count)) + body + bytes(~crc)
  }

  private static func bytes(_ value: UInt32) -> [UInt8] {
    [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
  }
}
