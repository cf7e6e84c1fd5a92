public import Tensor

/// A matrix [n, d] of which each rank holds consecutive rows, in the order of the ranks. No rank has memory for all of
/// it: the rows of others come in tiles.
public struct DistributedRows {
  /// The rows that each rank holds: end to end, from 0.
  public let ranges: [Range<Int>]
  /// This rank's rows.
  public let own: Tensor<Float>
  public let ranks: Communicator

  public init(_ own: Tensor<Float>, ranges: [Range<Int>], over ranks: Communicator) {
    precondition(ranges.count == ranks.size && ranges[0].lowerBound == 0, "\(ranges) for \(ranks.size) ranks")
    precondition(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound }, "ranges are adjacent")
    precondition(own.rows == ranges[ranks.rank].count, "\(own.shape) for \(ranges[ranks.rank])")
    (self.own, self.ranges, self.ranks) = (own, ranges, ranks)
  }

  /// The number n of rows of all ranks.
  public var count: Int { ranges[ranges.count - 1].upperBound }
  /// The number d of columns.
  public var columns: Int { own.columns }
  /// The numbers of this rank's rows.
  public var ownRange: Range<Int> { ranges[ranks.rank] }

  /// Fills `tile` [range, d] with some rows on every rank. All ranks must call it.
  public func fill(_ tile: Tensor<Float>, with range: Range<Int>) throws {
    let parts = parts(of: range)
    precondition(tile.shape == Shape(range.count, columns), "\(tile.shape) for the rows \(range)")
    copy(ownPart(of: range), into: tile.rows(parts[ranks.rank]))
    guard ranks.size > 1 else { return }
    if range == 0..<count {
      try ranks.allGather(partsOf: tile, ranges: parts.map(elements))
    } else {
      // Most ranks have none of these rows. An all-gather would pass those of a few around the ring, rank by rank,
      // while a broadcast's pieces move on all links at once.
      for (root, part) in parts.enumerated() where !part.isEmpty { try ranks.broadcast(tile.rows(part), root: root) }
    }
  }

  /// Returns some rows on rank 0, and nil on the others. All ranks must call it.
  public func gather(_ range: Range<Int>) throws -> Tensor<Float>? {
    let tile = ranks.rank == 0 ? Tensor<Float>(Shape(range.count, columns)) : nil
    try ranks.gather(ownPart(of: range), into: tile, ranges: parts(of: range).map(elements))
    return tile
  }

  /// Returns the same rows, held by the ranks as `others` says. Rows travel only between the ranks whose shares change.
  /// All ranks must call it.
  public func redistributed(_ others: [Range<Int>]) throws -> DistributedRows {
    guard others != ranges else { return self }
    let own = Tensor<Float>(Shape(others[ranks.rank].count, columns))
    func shared(_ one: Range<Int>, _ other: Range<Int>) -> Int { elements(one.clamped(to: other)).count }
    try ranks.allToAll(
      self.own, counts: others.map { shared($0, ownRange) }, into: own,
      lengths: ranges.map { shared($0, others[ranks.rank]) })
    return DistributedRows(own, ranges: others, over: ranks)
  }

  /// The rows of each rank in a range, counted from its beginning.
  private func parts(of range: Range<Int>) -> [Range<Int>] {
    ranges.map { $0.clamped(to: range).moved(by: -range.lowerBound) }
  }

  private func ownPart(of range: Range<Int>) -> Tensor<Float> {
    let shared = ownRange.clamped(to: range)
    return shared.isEmpty ? own.rows(0..<0) : own.rows(shared.moved(by: -ownRange.lowerBound))
  }

  private func elements(_ rows: Range<Int>) -> Range<Int> { rows.lowerBound * columns..<rows.upperBound * columns }
}
