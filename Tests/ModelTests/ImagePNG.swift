/// Writes uncompressed PNG files for tests, valid or deliberately invalid.
struct ImagePNG {
  enum Kind: UInt8, CaseIterable {
    case gray = 0
    case color = 2
    case palette = 3
    case grayAlpha = 4
    case colorAlpha = 6

    var samples: Int {
      switch self {
      case .gray, .palette: 1
      case .grayAlpha: 2
      case .color: 3
      case .colorAlpha: 4
      }
    }
  }

  var width: Int
  var height: Int
  var kind: Kind
  var depth = 8
  /// True if `rows` holds the seven passes of Adam7 one after the other.
  var interlaced = false
  /// The packed samples of each row, without filter bytes.
  var rows: [[UInt8]]
  /// Chunks between header and pixels: palette, transparency, EXIF.
  var chunks: [(String, [UInt8])] = []

  /// Creates an 8-bit image whose samples are a function of column, row and index within the pixel.
  init(width: Int, height: Int, kind: Kind = .color, sample: (Int, Int, Int) -> UInt8) {
    self.width = width
    self.height = height
    self.kind = kind
    rows = (0..<height).map { y in
      (0..<width).flatMap { x in (0..<kind.samples).map { sample(x, y, $0) } }
    }
  }

  /// The contents of the file.
  var bytes: [UInt8] {
    var file: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
    let header = Self.number(width) + Self.number(height)
    file += Self.chunk("IHDR", header + [UInt8(depth), kind.rawValue, 0, 0, interlaced ? 1 : 0])
    for (name, contents) in chunks { file += Self.chunk(name, contents) }
    file += Self.chunk("IDAT", Self.stored(rows.flatMap { [0] + $0 }))
    return file + Self.chunk("IEND", [])
  }

  /// Returns an eXIf chunk with one entry, the orientation.
  static func exif(_ orientation: Int) -> (String, [UInt8]) {
    ("eXIf", [0x4D, 0x4D, 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, UInt8(orientation), 0, 0, 0, 0, 0, 0])
  }

  static func chunk(_ name: String, _ contents: [UInt8]) -> [UInt8] {
    let body = Array(name.utf8) + contents
    return number(contents.count) + body + number(Int(checksum(body)))
  }

  private static func number(_ value: Int) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
  }

  /// Returns a zlib stream of stored blocks.
  private static func stored(_ bytes: [UInt8]) -> [UInt8] {
    var stream: [UInt8] = [0x78, 0x01]
    for start in stride(from: 0, to: bytes.count, by: 65_535) {
      let block = bytes[start..<min(start + 65_535, bytes.count)]
      let count = UInt16(block.count)
      stream.append(start + block.count == bytes.count ? 1 : 0)
      for word in [count, ~count] { stream += [UInt8(word & 0xFF), UInt8(word >> 8)] }
      stream += block
    }
    var (low, high) = (1, 0)
    for byte in bytes {
      low = (low + Int(byte)) % 65_521
      high = (high + low) % 65_521
    }
    return stream + number(high << 16 | low)
  }

  /// Returns the CRC-32 of a chunk's name and contents.
  private static func checksum(_ bytes: [UInt8]) -> UInt32 {
    ~bytes.reduce(~0 as UInt32) { sum, byte in
      (0..<8).reduce(sum ^ UInt32(byte)) { value, _ in value >> 1 ^ (value & 1 == 1 ? 0xEDB8_8320 : 0) }
    }
  }
}
