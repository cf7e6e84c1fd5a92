/// A range of a flat arena whose gradients are reduced, and whose values are gathered, in one collective each.
public struct Bucket: Sendable, Equatable {
  public let range: Range<Int>
  /// The piece that each rank owns. The pieces follow one another and cover the range; some may be empty.
  public let pieces: [Range<Int>]

  /// The pieces, counted from the beginning of the bucket.
  public var piecesInside: [Range<Int>] {
    pieces.map { $0.lowerBound - range.lowerBound..<$0.upperBound - range.lowerBound }
  }
}

/// The buckets of an arena, and the pieces of each bucket that the ranks own.
///
/// A rank owns a piece of every bucket, so that each bucket is a reduce-scatter of equal shares. If it owned one slice
/// of the arena, whole buckets would go to a single rank while the links of the others are idle, which takes P times as
/// long on P ranks.
public struct BucketPlan: Sendable, Equatable {
  /// Consecutive numbers of the arena that stay in one bucket.
  public struct Part: Sendable, Equatable {
    public var range: Range<Int>
    /// True if no other part may share its bucket.
    public var isAlone: Bool

    public init(_ range: Range<Int>, isAlone: Bool = false) {
      self.range = range
      self.isAlone = isAlone
    }
  }

  /// The buckets in the order of their ranges, which together cover the arena.
  public let buckets: [Bucket]
  /// The number of ranks.
  public let ranks: Int

  /// - Parameters:
  ///   - parts: the parts of the arena, which follow one another from 0. Each part and each piece begins at a multiple
  ///     of 16.
  ///   - ranks: the number of ranks that share the arena.
  ///   - size: the most numbers of a bucket of several parts. Parts are joined from the last one down; a larger part is
  ///     a bucket of its own.
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

  /// Returns how many numbers a rank owns.
  public func count(of rank: Int) -> Int { buckets.reduce(0) { $0 + $1.pieces[rank].count } }

  /// Returns the indices of the buckets that overlap these ranges.
  public func buckets(in ranges: [Range<Int>]) -> [Int] {
    buckets.indices.filter { index in ranges.contains { $0.overlaps(buckets[index].range) } }
  }
}
