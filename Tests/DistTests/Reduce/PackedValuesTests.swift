import Tensor
import Testing

@testable import Dist

/// Values of a bucket as they travel, some of them rounded.
@Suite struct PackedValuesTests {
  /// Each number that travels rounded takes two bytes, and any other as many as it has.
  @Test func packedValues() throws {
    let bucket = Bucket(range: 16..<80, pieces: [16..<32, 32..<48, 48..<80])
    let values = Tensor<Double>(Shape(80), (0..<80).map { 1 + Double($0) / 1024 })
    let packing = try #require(PackedValues<Double>(bucket, rounded: [0..<8, 20..<40, 76..<90]))
    #expect(PackedValues<Double>(bucket, rounded: [0..<8, 90..<100]) == nil)
    #expect(packing.ranges.total == 20 + 4 + 4 * 40)
    #expect(PackedValues<Double>.bytes(of: bucket.range, rounded: [0..<8, 20..<40, 76..<90]) == 2 * (24 + 160))
    let (packed, other) = (Tensor<UInt16>(Shape(packing.ranges.total)), Tensor<Double>(Shape(80)))
    for rank in 0..<3 {
      packing.pack(values, of: rank, into: packed)
      packing.unpack(packed, of: rank, into: other)
    }
    for place in 16..<80 {
      let isRounded = (20..<40).contains(place) || place >= 76
      // Of the ten bits behind the point, seven are left.
      #expect(isRounded ? abs(other[place] - values[place]) <= 0x1p-8 : other[place] == values[place], "\(place)")
    }
    #expect(other.array != values.array && other.array.prefix(16).allSatisfy { $0 == 0 })
  }
}
