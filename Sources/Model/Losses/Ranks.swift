public import Tensor

/// The rows of a global batch that one rank owns.
struct LocalBatch {
  let rows: Range<Int>
  /// N, the number of pairs of all ranks.
  let count: Int

  init(rows: Range<Int>, count: Int) {
    precondition(rows.lowerBound >= 0 && rows.upperBound <= count, "rows \(rows) of \(count)")
    (self.rows, self.count) = (rows, count)
  }

  /// The column of a tile, counted from its first, that belongs to the tile's first row itself; it may lie outside.
  func diagonal(_ tileRows: Range<Int>, _ columns: Range<Int>) -> Int {
    rows.lowerBound + tileRows.lowerBound - columns.lowerBound
  }
}

/// The collectives that a loss needs. All ranks make the same calls in the same order.
public protocol Ranks<S> {
  associatedtype S: Scalar

  /// Fills `all` with the rows of every rank in rank order; `local` are this rank's.
  func allGather(_ local: Tensor<S>, into all: Tensor<S>) throws
  /// Replaces each number by its sum over the ranks.
  func allReduce(_ numbers: inout [Double]) throws
  /// Replaces each number by its maximum over the ranks.
  func allReduceMaximum(_ numbers: inout [Double]) throws
}

/// A single rank, whose local batch is the global one.
public struct SingleRank<S: Scalar>: Ranks {
  public init() {}
  public func allGather(_ local: Tensor<S>, into all: Tensor<S>) { copy(local, into: all) }
  public func allReduce(_ numbers: inout [Double]) {}
  public func allReduceMaximum(_ numbers: inout [Double]) {}
}
