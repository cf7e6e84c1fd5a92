public import Tensor

/// The other ranks, as a loss sees them. Every call is made by all ranks in the same order.
public protocol Ranks<S> {
  associatedtype S: Scalar

  /// `all` ← the rows of every rank in rank order; `local` are this rank's.
  func allGather(_ local: Tensor<S>, into all: Tensor<S>) throws
  /// Each number ← its sum over the ranks.
  func allReduce(_ numbers: inout [Double]) throws
  /// Each number ← its maximum over the ranks.
  func allReduceMaximum(_ numbers: inout [Double]) throws
}

/// No other ranks: the global batch is the local one.
public struct SingleRank<S: Scalar>: Ranks {
  public init() {}
  public func allGather(_ local: Tensor<S>, into all: Tensor<S>) { copy(local, into: all) }
  public func allReduce(_ numbers: inout [Double]) {}
  public func allReduceMaximum(_ numbers: inout [Double]) {}
}
