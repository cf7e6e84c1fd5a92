import TestSupport
import Testing

@testable import Tensor

/// Numbers that are rounded to bfloat16 for their way between ranks, and sums of them.
@Suite struct RoundedSumTests {
  /// Returns x rounded by looking at its two neighbours: the nearer one, or of two as near the one with an even last
  /// bit.
  private static func rounded(_ x: Float) -> Float {
    guard x.isFinite else { return x }
    let low = Float(bitPattern: x.bitPattern & 0xFFFF_0000)
    let high = Float(bitPattern: low.bitPattern &+ 0x1_0000)
    // Beyond the largest number lies 2¹²⁸, where rounding to nearest has its infinity.
    let far = high.isFinite ? Double(high) : (x < 0 ? -0x1p128 : 0x1p128)
    let (below, above) = (abs(Double(x) - Double(low)), abs(far - Double(x)))
    if below == above { return low.bitPattern & 0x1_0000 == 0 ? low : high }
    return below < above ? low : high
  }

  @Test func roundsToNearestWithTiesToEven() {
    var bits: [UInt32] = [0x3F80_8000, 0x3F81_8000, 0xBF80_8000, 0x3F80_7FFF, 0x3F80_8001, 0x7F7F_FFFF, 0xFF7F_8000]
    bits += [0, 0x8000_0000, 1, 0x8000, 0x8001, 0x1_8000, 0x7F80_0000, 0xFF80_0000]
    var random = KeyedRandom(seed: 3, purpose: "bits")
    for _ in 0..<10_000 { bits.append(UInt32(random.below(1 << 16)) << 16 | UInt32(random.below(1 << 16))) }
    let values = bits.map { Float(bitPattern: $0) }.filter { !$0.isNaN } + [.nan]
    let x = Tensor<Float>(Shape(values.count), values)
    let y = BFloat16Buffer().tensor(x.shape)
    round(x, into: y)
    for (value, found) in zip(values, y.floats) {
      if value.isNaN {
        #expect(found.isNaN)
      } else {
        #expect(found.bitPattern == Self.rounded(value).bitPattern, "\(value)")
      }
    }
  }

  @Test(arguments: [0, 1, 7, 1000, 200_001]) func sumsAreHeldInTheScalarOfTheSum(count: Int) {
    sums(Float.self, count)
    sums(Double.self, count)
  }

  private func sums<S: Scalar>(_: S.Type, _ count: Int) {
    let (x, y) = (Tensor<S>.random(Shape(count), "x"), Tensor<S>.random(Shape(count), "y"))
    let rounded = BFloat16Buffer().tensor(x.shape)
    round(x, into: rounded)
    let expected = zip(y.array, rounded.floats).map { $0 + S($1) }
    add(rounded, to: y)
    #expect(y.array == expected)
  }

  @Test func bitsTravelInArraysOfAnotherType() {
    let x = Tensor<Double>.random(Shape(5), "x")
    let (bits, y) = (Tensor<UInt16>(Shape(20)), Tensor<Double>(Shape(5)))
    copyBits(x, into: bits)
    copyBits(bits, into: y)
    #expect(y.array == x.array && bits.array != [UInt16](repeating: 0, count: 20))
  }
}
