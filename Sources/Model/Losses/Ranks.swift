public import Tensor

/// The rows of a global batch that one rank owns.
public struct LocalBatch: Equatable, Sendable {
  public let rows: Range<Int>
  /// N, the number of pairs of all ranks.
  public let count: Int

  public init(rows: Range<Int>, count: Int) {
    precondition(rows.lowerBound >= 0 && rows.upperBound <= count, "rows \(rows) of \(count)")
    self.rows = rows
    self.count = count
  }

  /// The place of this rank's first row in the global batch.
  public var first: Int { rows.lowerBound }
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
