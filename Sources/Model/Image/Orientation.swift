// Where the three formats keep their EXIF block, and the one number that is wanted of it. Written over spans: whatever
// the bytes say, an offset outside them ends the search, and a picture without a readable orientation is upright.

extension ImageOrientation {
  /// The orientation in the EXIF block of a picture file; `.upright` if there is none or it makes no sense.
  static func read(format: ImageFormat, bytes: Span<UInt8>) -> ImageOrientation {
    let block: Range<Int>? =
      switch format {
      case .jpeg: jpegBlock(bytes)
      case .png: pngBlock(bytes)
      case .webp: webpBlock(bytes)
      }
    guard let block else { return .upright }
    return ImageOrientation(rawValue: tag(bytes, block) ?? 1) ?? .upright
  }

  /// A JPEG keeps it in the first APP1 segment that begins "Exif\0\0", before the scan.
  private static func jpegBlock(_ bytes: Span<UInt8>) -> Range<Int>? {
    var at = 2
    while at + 4 <= bytes.count, bytes[at] == 0xFF {
      let marker = bytes[at + 1]
      if marker == 0xFF {  // a fill byte before a marker
        at += 1
        continue
      }
      if marker == 0xDA || marker == 0xD9 { return nil }
      let end = at + 2 + number(bytes, at + 2, 2, littleEndian: false)
      guard end >= at + 4, end <= bytes.count else { return nil }
      if marker == 0xE1, end - at >= 10, holds(bytes, at + 4, "Exif\0\0") { return at + 10..<end }
      at = end
    }
    return nil
  }

  /// A PNG keeps it in its eXIf chunk.
  private static func pngBlock(_ bytes: Span<UInt8>) -> Range<Int>? {
    var at = 8
    while at + 12 <= bytes.count {
      let end = at + 8 + number(bytes, at, 4, littleEndian: false)
      guard end + 4 <= bytes.count else { return nil }
      if holds(bytes, at + 4, "eXIf") { return at + 8..<end }
      at = end + 4
    }
    return nil
  }

  /// A WebP keeps it in its EXIF chunk, some writers with JPEG's "Exif\0\0" before it.
  private static func webpBlock(_ bytes: Span<UInt8>) -> Range<Int>? {
    var at = 12
    while at + 8 <= bytes.count {
      let count = number(bytes, at + 4, 4, littleEndian: true)
      let end = at + 8 + count
      guard end <= bytes.count else { return nil }
      if holds(bytes, at, "EXIF") {
        return count >= 6 && holds(bytes, at + 8, "Exif\0\0") ? at + 14..<end : at + 8..<end
      }
      at = end + count % 2
    }
    return nil
  }

  /// The value of tag 0x0112 in the first directory of a TIFF block.
  private static func tag(_ bytes: Span<UInt8>, _ block: Range<Int>) -> Int? {
    guard block.count >= 8 else { return nil }
    let start = block.lowerBound
    let littleEndian = holds(bytes, start, "II")
    guard littleEndian || holds(bytes, start, "MM"),
      number(bytes, start + 2, 2, littleEndian: littleEndian) == 42
    else { return nil }
    let directory = start + number(bytes, start + 4, 4, littleEndian: littleEndian)
    guard directory + 2 <= block.upperBound else { return nil }
    for entry in 0..<number(bytes, directory, 2, littleEndian: littleEndian) {
      let at = directory + 2 + entry * 12
      guard at + 12 <= block.upperBound else { return nil }
      guard number(bytes, at, 2, littleEndian: littleEndian) == 0x0112 else { continue }
      // Type 3 is a 16-bit number, type 4 a 32-bit one.
      switch number(bytes, at + 2, 2, littleEndian: littleEndian) {
      case 3: return number(bytes, at + 8, 2, littleEndian: littleEndian)
      case 4: return number(bytes, at + 8, 4, littleEndian: littleEndian)
      default: return nil
      }
    }
    return nil
  }

  private static func number(_ bytes: Span<UInt8>, _ at: Int, _ count: Int, littleEndian: Bool) -> Int {
    var value = 0
    for index in 0..<count { value = value << 8 | Int(bytes[at + (littleEndian ? count - 1 - index : index)]) }
    return value
  }

  private static func holds(_ bytes: Span<UInt8>, _ at: Int, _ text: StaticString) -> Bool {
    guard at + text.utf8CodeUnitCount <= bytes.count else { return false }
    for index in 0..<text.utf8CodeUnitCount {
      let expected = unsafe text.utf8Start[index]
      if bytes[at + index] != expected { return false }
    }
    return true
  }
}

extension RGBImage {
  /// Becomes `source` turned upright.
  mutating func take(_ source: borrowing RGBImage, turned orientation: ImageOrientation) {
    let (w, h) = (source.width, source.height)
    reshape(width: orientation.exchangesSides ? h : w, height: orientation.exchangesSides ? w : h)
    let (width, height) = (self.width, self.height)
    let from = source.storage.span
    var to = storage.mutableSpan
    for y in 0..<height {
      for x in 0..<width {
        // The stored column and row that belong at (x, y).
        let (column, row) =
          switch orientation {
          case .upright: (x, y)
          case .mirrored: (w - 1 - x, y)
          case .upsideDown: (w - 1 - x, h - 1 - y)
          case .flipped: (x, h - 1 - y)
          case .transposed: (y, x)
          case .turnRight: (y, h - 1 - x)
          case .transversed: (w - 1 - y, h - 1 - x)
          case .turnLeft: (w - 1 - y, x)
          }
        for channel in 0..<3 { to[(y * width + x) * 3 + channel] = from[(row * w + column) * 3 + channel] }
      }
    }
  }
}
