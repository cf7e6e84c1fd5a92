// All formats that are read and written here have numbers from their lowest byte on.

extension FixedWidthInteger {
  /// The number's bytes, from the lowest on.
  @inlinable public var littleEndianBytes: [UInt8] { CollectionOfOne(self).littleEndianBytes }
}

extension Sequence where Element: FixedWidthInteger {
  /// The bytes of the numbers one after another, each from its lowest byte on.
  @inlinable public var littleEndianBytes: [UInt8] {
    let size = Element.bitWidth / 8
    var bytes: [UInt8] = []
    bytes.reserveCapacity(underestimatedCount * size)
    for number in self {
      for index in 0..<size { bytes.append(UInt8(truncatingIfNeeded: number >> (8 * index))) }
    }
    return bytes
  }
}

extension [UInt8] {
  /// Returns the little-endian number of `count` bytes, at most 8, at `at`.
  @inlinable public func little(_ count: Int, at: Int) -> UInt64 {
    self[at..<at + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}
