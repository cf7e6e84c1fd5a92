/// A range of a flat arena whose gradient is summed over the ranks in one go, and whose values are shared out in one.
public struct Bucket: Sendable, Equatable {
  public let range: Range<Int>
  /// What of it each rank owns. They follow one another and cover the range; some may be empty.
  public let pieces: [Range<Int>]

  /// The pieces as places within the bucket.
  public var piecesInside: [Range<Int>] {
    pieces.map { $0.lowerBound - range.lowerBound..<$0.upperBound - range.lowerBound }
  }
}

/// How an arena is cut into buckets, and who owns what of it.
///
/// A rank owns a piece of every bucket and not one slice of the arena: each bucket is then a reduce-scatter of equal
/// shares. Were it wholly one rank's, all of the bucket would go down that rank's wire while the others' are idle: with
/// P ranks P times as slow, whatever the sums over a step are.
public struct BucketPlan: Sendable, Equatable {
  /// Consecutive numbers of the arena that are not cut.
  public struct Part: Sendable, Equatable {
    public var range: Range<Int>
    /// Whether no other part shares its bucket.
    public var isAlone: Bool

    public init(_ range: Range<Int>, isAlone: Bool = false) {
      self.range = range
      self.isAlone = isAlone
    }
  }

  /// By rising place; together they cover the arena.
  public let buckets: [Bucket]
  public let ranks: Int

  /// - Parameters:
  ///   - parts: they follow one another from 0. Each beginning is a multiple of 16, and so is that of every piece.
  ///   - ranks: how many ranks share the arena.
  ///   - size: numbers to which parts are joined to a bucket, from the last part down; a larger part is one bucket.
  public init(_ parts: [Part], ranks: Int, size: Int) {
    precondition(ranks > 0 && size > 0)
    self.ranks = ranks
    var ranges: [Range<Int>] = []
    var isClosed = true
    for part in parts.reversed() {
      precondition(ranges.last.map { $0.lowerBound == part.range.upperBound } ?? true, "parts are adjacent")
      if let last = ranges.last, !isClosed, !part.isAlone, last.upperBound - part.range.lowerBound <= size {
        ranges[ranges.count - 1] = part.range.lowerBound..<last.upperBound
      } else {
        ranges.append(part.range)
      }
      isClosed = part.isAlone
    }
    precondition(ranges.last.map { $0.lowerBound == 0 } ?? true, "the first part begins at 0")
    buckets = ranges.reversed().map { Bucket(range: $0, pieces: Self.pieces(of: $0, ranks: ranks)) }
  }

  /// Equal shares of a range, one a rank, each beginning at a multiple of 16 numbers behind the range's beginning.
  public static func pieces(of range: Range<Int>, ranks: Int) -> [Range<Int>] {
    let bounds = (0...ranks).map { rank in
      rank == ranks
        ? range.upperBound
        : range.lowerBound + Communicator.slice(of: range.count / 16, rank: rank, size: ranks).lowerBound * 16
    }
    return zip(bounds, bounds.dropFirst()).map { $0..<$1 }
  }

  /// What a rank owns, by rising place, neighbours joined.
  public func ranges(of rank: Int) -> [Range<Int>] {
    buckets.reduce(into: []) { ranges, bucket in
      let piece = bucket.pieces[rank]
      guard !piece.isEmpty else { return }
      if let last = ranges.last, last.upperBound == piece.lowerBound {
        ranges[ranges.count - 1] = last.lowerBound..<piece.upperBound
      } else {
        ranges.append(piece)
      }
    }
  }

  /// How many numbers a rank owns.
  public func count(of rank: Int) -> Int { buckets.reduce(0) { $0 + $1.pieces[rank].count } }

  /// The buckets that have numbers of these ranges in them.
  public func buckets(in ranges: [Range<Int>]) -> [Int] {
    buckets.indices.filter { index in ranges.contains { $0.overlaps(buckets[index].range) } }
  }
}
