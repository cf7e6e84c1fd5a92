/// Strings end to end in memory: 4 bytes and its own bytes each.
struct PackedStrings: Sendable {
  private let bytes: [UInt8]
  private let offsets: [UInt32]

  /// Nil where `offsets` do not rise from 0 to the end of `bytes`, or the bytes exceed 4 GiB.
  init?(bytes: [UInt8], offsets: [UInt64]) {
    guard bytes.count <= UInt32.max, offsets.rises(to: bytes.count) else { return nil }
    self.bytes = bytes
    self.offsets = offsets.map(UInt32.init)
  }

  var count: Int { offsets.count - 1 }

  func bytes(_ index: Int) -> ArraySlice<UInt8> { bytes[Int(offsets[index])..<Int(offsets[index + 1])] }

  subscript(index: Int) -> String { String(decoding: bytes(index), as: UTF8.self) }
}

extension [UInt64] {
  /// Whether the numbers begin with 0, never fall, and end with `end`.
  func rises(to end: Int) -> Bool {
    guard first == 0, last == UInt64(end) else { return false }
    return zip(self, dropFirst()).allSatisfy { $0 <= $1 }
  }
}
