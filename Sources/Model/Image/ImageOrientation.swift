/// The eight EXIF orientations: how the stored image must be turned or mirrored to stand upright.
public enum ImageOrientation: Int, CaseIterable, Sendable {
  case upright = 1
  case mirrored, upsideDown, flipped, transposed, turnRight, transversed, turnLeft

  /// True if applying the orientation exchanges width and height.
  public var exchangesSides: Bool { rawValue >= Self.transposed.rawValue }
}

// All reading goes through spans, so no damaged file can make it read outside the bytes: an offset beyond the end stops
// the search, and an image without a readable orientation counts as upright.
extension ImageOrientation {
  /// Returns the orientation in the EXIF block of an image file, or `.upright` if there is none or it is invalid.
  static func read(format: ImageFormat, bytes: Span<UInt8>) -> ImageOrientation {
    let found: Range<Int>? =
      switch format {
      case .jpeg: jpegBlock(bytes)
      case .png: chunk(bytes, "eXIf", isPNG: true)
      case .webp: chunk(bytes, "EXIF", isPNG: false)
      }
    guard var block = found else { return .upright }
    // Some writers begin the block of a WebP like that of a JPEG.
    if format == .webp, block.count >= 6, holds(bytes, block.lowerBound, "Exif\0\0") {
      block = block.lowerBound + 6..<block.upperBound
    }
    return ImageOrientation(rawValue: tag(bytes, block) ?? 1) ?? .upright
  }

  /// Finds the EXIF block of a JPEG: the first APP1 segment before the scan that begins with "Exif\0\0".
  private static func jpegBlock(_ bytes: Span<UInt8>) -> Range<Int>? {
    var at = 2
    while at + 4 <= bytes.count, bytes[at] == 0xFF {
      let marker = bytes[at + 1]
      if marker == 0xFF {  // a fill byte before a marker
        at += 1
        continue
      }
      if marker == 0xDA || marker == 0xD9 { return nil }
      let end = at + 2 + number(bytes, at: at + 2, count: 2, littleEndian: false)
      guard end >= at + 4, end <= bytes.count else { return nil }
      if marker == 0xE1, end - at >= 10, holds(bytes, at + 4, "Exif\0\0") { return at + 10..<end }
      at = end
    }
    return nil
  }

  /// Finds the data of the first chunk `name`: in a PNG it follows a big-endian length and the name, and a checksum
  /// follows; in a WebP it follows the name and a little-endian length, and is padded to an even length.
  private static func chunk(_ bytes: Span<UInt8>, _ name: StaticString, isPNG: Bool) -> Range<Int>? {
    var at = isPNG ? 8 : 12
    while at + (isPNG ? 12 : 8) <= bytes.count {
      let count = number(bytes, at: isPNG ? at : at + 4, count: 4, littleEndian: !isPNG)
      let end = at + 8 + count
      guard end + (isPNG ? 4 : 0) <= bytes.count else { return nil }
      if holds(bytes, isPNG ? at + 4 : at, name) { return at + 8..<end }
      at = end + (isPNG ? 4 : count % 2)
    }
    return nil
  }

  /// Returns the value of tag 0x0112, the orientation, in the first directory of a TIFF block.
  private static func tag(_ bytes: Span<UInt8>, _ block: Range<Int>) -> Int? {
    guard block.count >= 8 else { return nil }
    let start = block.lowerBound
    let littleEndian = holds(bytes, start, "II")
    guard littleEndian || holds(bytes, start, "MM"),
      number(bytes, at: start + 2, count: 2, littleEndian: littleEndian) == 42
    else { return nil }
    let directory = start + number(bytes, at: start + 4, count: 4, littleEndian: littleEndian)
    guard directory + 2 <= block.upperBound else { return nil }
    for entry in 0..<number(bytes, at: directory, count: 2, littleEndian: littleEndian) {
      let at = directory + 2 + entry * 12
      guard at + 12 <= block.upperBound else { return nil }
      guard number(bytes, at: at, count: 2, littleEndian: littleEndian) == 0x0112 else { continue }
      // Type 3 is a 16-bit number, and type 4 a 32-bit one.
      switch number(bytes, at: at + 2, count: 2, littleEndian: littleEndian) {
      case 3: return number(bytes, at: at + 8, count: 2, littleEndian: littleEndian)
      case 4: return number(bytes, at: at + 8, count: 4, littleEndian: littleEndian)
      default: return nil
      }
    }
    return nil
  }

  /// Returns the unsigned number in the `count` bytes that begin at offset `at`.
  private static func number(_ bytes: Span<UInt8>, at: Int, count: Int, littleEndian: Bool) -> Int {
    var value = 0
    for index in 0..<count { value = value << 8 | Int(bytes[at + (littleEndian ? count - 1 - index : index)]) }
    return value
  }

  /// Returns whether the ASCII characters of `text` begin at offset `at`.
  private static func holds(_ bytes: Span<UInt8>, _ at: Int, _ text: StaticString) -> Bool {
    guard at + text.utf8CodeUnitCount <= bytes.count else { return false }
    for index in 0..<text.utf8CodeUnitCount {
      let expected = unsafe text.utf8Start[index]
      if bytes[at + index] != expected { return false }
    }
    return true
  }
}
