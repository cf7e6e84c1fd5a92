/// Returns Bob Jenkins's hash lookup3 of the bytes, which HDF5 takes for checksums of metadata and for hashes of names.
func lookup3(_ bytes: [UInt8]) -> UInt32 {
  var a = 0xDEAD_BEEF &+ UInt32(truncatingIfNeeded: bytes.count)
  var (b, c) = (a, a)
  guard !bytes.isEmpty else { return c }
  /// Returns the little-endian word at `at`. Bytes beyond the end count as zeros.
  func word(_ at: Int) -> UInt32 {
    var word: UInt32 = 0
    for index in at..<max(at, min(at + 4, bytes.count)) { word |= UInt32(bytes[index]) << (8 * UInt32(index - at)) }
    return word
  }
  func rotated(_ word: UInt32, _ bits: UInt32) -> UInt32 { word << bits | word >> (32 - bits) }
  func mix(_ x: inout UInt32, _ y: UInt32, _ z: inout UInt32, _ bits: UInt32) {
    x = (x &- z) ^ rotated(z, bits)
    z = z &+ y
  }
  func finish(_ x: inout UInt32, _ y: UInt32, _ bits: UInt32) { x = (x ^ y) &- rotated(y, bits) }

  var at = 0
  while true {
    a = a &+ word(at)
    b = b &+ word(at + 4)
    c = c &+ word(at + 8)
    at += 12
    guard at < bytes.count else { break }
    mix(&a, b, &c, 4)
    mix(&b, c, &a, 6)
    mix(&c, a, &b, 8)
    mix(&a, b, &c, 16)
    mix(&b, c, &a, 19)
    mix(&c, a, &b, 4)
  }
  finish(&c, b, 14)
  finish(&a, c, 11)
  finish(&b, a, 25)
  finish(&c, b, 16)
  finish(&a, c, 4)
  finish(&b, a, 14)
  finish(&c, b, 24)
  return c
}
