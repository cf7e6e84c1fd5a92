internal import RealModule

/// Random numbers that are a function of a key and never of rank, thread or history: Philox4x32-10 (Salmon, Moraes,
/// Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3; SC 2011). The key is mixed into Philox's 64-bit key and the
/// upper half of its counter; the lower half counts blocks, so no state needs to be saved.
public struct KeyedRandom: RandomNumberGenerator, Sendable {
  private let key: SIMD2<UInt32>
  private let upper: SIMD2<UInt32>
  private var block: UInt64 = 0
  private var held: UInt64?

  /// Begins the stream of `seed` for one `purpose` ("crop", "order", a parameter's name) and up to two more numbers.
  public init(seed: UInt64, purpose: String, _ first: UInt64 = 0, second: UInt64 = 0) {
    var state = Self.mix(seed &+ 0x9E37_79B9_7F4A_7C15)
    for byte in purpose.utf8 { state = Self.mix(state ^ UInt64(byte)) }
    state = Self.mix(state ^ first)
    state = Self.mix(state &+ second &* 0xD1B5_4A32_D192_ED03)
    let other = Self.mix(state ^ 0xA076_1D64_78BD_642F)
    key = [UInt32(truncatingIfNeeded: state), UInt32(truncatingIfNeeded: state >> 32)]
    upper = [UInt32(truncatingIfNeeded: other), UInt32(truncatingIfNeeded: other >> 32)]
  }

  public mutating func next() -> UInt64 {
    if let value = held.take() { return value }
    let (low, high) = (UInt32(truncatingIfNeeded: block), UInt32(truncatingIfNeeded: block >> 32))
    let word = Self.philox(SIMD4(low, high, upper.x, upper.y), key)
    block &+= 1
    held = UInt64(word.z) | UInt64(word.w) << 32
    return UInt64(word.x) | UInt64(word.y) << 32
  }

  /// Returns a number in [0, 1), a multiple of 2⁻⁵³.
  public mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }
  /// Returns a number in [low, high).
  public mutating func uniform(from low: Double, to high: Double) -> Double { low + (high - low) * uniform() }

  /// Returns a number of the normal distribution with mean 0 and variance 1, by the method of Box and Muller.
  public mutating func normal() -> Double {
    let radius = Double.sqrt(-2 * Double.log(1 - uniform()))
    return radius * Double.cos(2 * Double.pi * uniform())
  }

  /// Returns a number in 0 ..< bound, each with the same probability.
  public mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }

  /// Mixes 64 bits with the finalizer of SplitMix64, so that every input bit affects every output bit.
  private static func mix(_ value: UInt64) -> UInt64 {
    var z = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// Runs ten rounds of Philox4x32.
  static func philox(_ counter: SIMD4<UInt32>, _ key: SIMD2<UInt32>) -> SIMD4<UInt32> {
    var (c, k) = (counter, key)
    for _ in 0..<10 {
      let a = 0xD251_1F53 as UInt64 * UInt64(c.x)
      let b = 0xCD9E_8D57 as UInt64 * UInt64(c.z)
      // No array literals: those would first make arrays.
      c = SIMD4(
        UInt32(truncatingIfNeeded: b >> 32) ^ c.y ^ k.x, UInt32(truncatingIfNeeded: b),
        UInt32(truncatingIfNeeded: a >> 32) ^ c.w ^ k.y, UInt32(truncatingIfNeeded: a))
      k = SIMD2(k.x &+ 0x9E37_79B9, k.y &+ 0xBB67_AE85)
    }
    return c
  }
}
