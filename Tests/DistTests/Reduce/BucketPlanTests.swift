import Dist
import Testing

@Suite struct BucketPlanTests {
  /// Parts of 16, 32, … numbers. The third has a bucket of its own.
  private static let parts = (1...7).map { index in
    BucketPlan.Part(8 * index * (index - 1)..<8 * index * (index + 1), isAlone: index == 3)
  }

  @Test(arguments: [1, 2, 3, 5, 100], [1, 64, 100, 10_000])
  func everyNumberHasOneOwner(ranks: Int, size: Int) {
    let plan = BucketPlan(Self.parts, ranks: ranks, size: size)
    var end = 0
    for bucket in plan.buckets {
      #expect(bucket.range.lowerBound == end && bucket.pieces.count == ranks)
      end = bucket.range.upperBound
      var inside = bucket.range.lowerBound
      for piece in bucket.pieces {
        #expect(piece.lowerBound == inside && (piece.isEmpty || piece.lowerBound % 16 == 0))
        inside = piece.upperBound
      }
      #expect(inside == bucket.range.upperBound)
      let counts = bucket.pieces.map(\.count)
      #expect(counts.max()! - counts.min()! <= 16)
    }
    #expect(end == 8 * 7 * 8)
    let owned = (0..<ranks).map(plan.ranges(of:))
    #expect(owned.joined().flatMap { Array($0) }.sorted() == Array(0..<end))
    for (rank, ranges) in owned.enumerated() {
      #expect(ranges.reduce(0) { $0 + $1.count } == plan.count(of: rank))
      #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound }, "neighbours are joined")
    }
  }

  /// From the last part down: 112 + 96 numbers are more than 200, and 96 + 80 are not. The fourth part cannot join the
  /// third, which is alone, and neither can the first two.
  @Test func partsAreJoinedUpToTheSize() {
    let plan = BucketPlan(Self.parts, ranks: 2, size: 200)
    #expect(plan.buckets.map(\.range) == [0..<48, 48..<96, 96..<160, 160..<336, 336..<448])
    #expect(plan.buckets[3].pieces == [160..<240, 240..<336])
    #expect(plan.buckets(in: [47..<48, 335..<337]) == [0, 3, 4])
    #expect(plan.ranges(of: 0) == [0..<16, 48..<64, 96..<128, 160..<240, 336..<384])
    #expect(BucketPlan(Self.parts, ranks: 2, size: 1).buckets.count == 7)
    #expect(BucketPlan([], ranks: 2, size: 1).buckets.isEmpty)
  }
}
