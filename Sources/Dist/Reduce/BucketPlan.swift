/// A range of a flat arena whose gradients are reduced, and whose values are gathered, in one collective each.
public struct Bucket: Sendable, Equatable {
  public let range: Range<Int>
  /// The piece that each rank owns. The pieces follow one another and cover the range; some may be empty.
  public let pieces: [Range<Int>]
  /// The pieces, counted from the beginning of the bucket.
  public var piecesInside: [Range<Int>] { pieces.map { $0.moved(by: -range.lowerBound) } }
}

/// The buckets of an arena. A rank owns a piece of every bucket, so that each is a reduce-scatter of equal shares. With
/// one slice a rank, whole buckets would go to one rank while the other links are idle.
public struct BucketPlan: Sendable, Equatable {
  /// Consecutive numbers of the arena that stay in one bucket.
  public struct Part: Sendable, Equatable {
    public var range: Range<Int>
    /// True if no other part may share its bucket.
    public var isAlone: Bool
    public init(_ range: Range<Int>, isAlone: Bool = false) { (self.range, self.isAlone) = (range, isAlone) }
  }

  /// The buckets in the order of their ranges, which together cover the arena.
  public let buckets: [Bucket]
  /// The number of ranks.
  public let ranks: Int

  /// Plans the buckets of an arena whose parts follow one another from 0, each from a multiple of 16, like all pieces.
  /// Parts are joined from the last one down, up to `size` numbers; a larger part is a bucket of its own.
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

  /// Returns equal shares of a range, one for each rank. Each begins a multiple of 16 numbers after the range's start.
  public static func pieces(of range: Range<Int>, ranks: Int) -> [Range<Int>] {
    let bounds = (0...ranks).map { rank in
      rank == ranks
        ? range.upperBound
        : range.lowerBound + Communicator.slice(of: range.count / 16, rank: rank, size: ranks).lowerBound * 16
    }
    return zip(bounds, bounds.dropFirst()).map { $0..<$1 }
  }

  /// Returns the ranges of the arena that a rank owns, in rising order; adjacent ones are joined.
  public func ranges(of rank: Int) -> [Range<Int>] {
    buckets.map { $0.pieces[rank] }.filter { !$0.isEmpty }.reduce(into: []) { $0.appendJoining($1) }
  }

  /// Returns how many numbers a rank owns.
  public func count(of rank: Int) -> Int { buckets.reduce(0) { $0 + $1.pieces[rank].count } }

  /// Returns the indices of the buckets that overlap these ranges.
  public func buckets(in ranges: [Range<Int>]) -> [Int] {
    buckets.indices.filter { index in ranges.contains { $0.overlaps(buckets[index].range) } }
  }
}
