/// A hash of the bits of x and of their order: what differs in one bit or more has another hash, but for one chance in
/// 2⁶⁴. Numbers that are equal and differ in their bits, such as the zeros, count as different.
public func bitHash<S: Scalar>(_ x: Tensor<S>) -> UInt64 {
  // Four times eight chains side by side, for each waits for its own products.
  typealias Lanes = SIMD8<UInt64>
  let prime = Lanes(repeating: 0x9E37_79B9_7F4A_7C15)
  let shift = Lanes(repeating: 29)
  let first = Lanes(0, 1, 2, 3, 4, 5, 6, 7)
  var (a, b, c, d) = (first, first &+ 8, first &+ 16, first &+ 24)
  let bytes = UnsafeRawBufferPointer(start: x.pointer, count: x.count * MemoryLayout<S>.stride)
  let step = 4 * MemoryLayout<Lanes>.size
  var at = 0
  while at + step <= bytes.count {
    a = (a ^ bytes.loadUnaligned(fromByteOffset: at, as: Lanes.self)) &* prime
    b = (b ^ bytes.loadUnaligned(fromByteOffset: at + 64, as: Lanes.self)) &* prime
    c = (c ^ bytes.loadUnaligned(fromByteOffset: at + 128, as: Lanes.self)) &* prime
    d = (d ^ bytes.loadUnaligned(fromByteOffset: at + 192, as: Lanes.self)) &* prime
    // A product carries bits upwards only.
    a ^= a &>> shift
    b ^= b &>> shift
    c ^= c &>> shift
    d ^= d &>> shift
    at += step
  }
  var hash = UInt64(bytes.count)
  func add(_ word: UInt64) {
    hash = (hash ^ word) &* 0x9E37_79B9_7F4A_7C15
    hash ^= hash >> 29
  }
  for lanes in [a, b, c, d] { for lane in 0..<8 { add(lanes[lane]) } }
  for byte in bytes[at...] { add(UInt64(byte)) }
  return hash
}
