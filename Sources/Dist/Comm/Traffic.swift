/// What a rank receives in a collective, in bytes, where each piece travels once: an all-reduce is a reduce-scatter of
/// equal shares and a gathering of them. MPI may choose another way, and inside a node nothing crosses a wire.
public struct Traffic: Sendable, Equatable {
  public let rank: Int
  public let size: Int

  public init(rank: Int, size: Int) {
    precondition(size > 0 && (0..<size).contains(rank))
    self.rank = rank
    self.size = size
  }

  /// Own range of a sum, a piece of it from each other rank.
  public func reduceScatter(_ ranges: [Range<Int>], stride: Int) -> Int { (size - 1) * ranges[rank].count * stride }

  /// What other ranks own of a whole.
  public func gather(_ ranges: [Range<Int>], stride: Int) -> Int {
    (ranges.reduce(0) { $0 + $1.count } - ranges[rank].count) * stride
  }

  /// A sum, or another reduction, of `count` elements that all ranks get.
  public func allReduce(_ count: Int, stride: Int) -> Int {
    let own = Communicator.slice(of: count, rank: rank, size: size).count
    return ((size - 1) * own + count - own) * stride
  }
}
