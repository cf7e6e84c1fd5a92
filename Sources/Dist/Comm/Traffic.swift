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

  /// Rows of a matrix to those who own something of them (`TouchedRows`), at most: with `touched` rows of each rank,
  /// `width` wide, as far as they can lie in the piece of this rank; and their numbers.
  public func touchedRows(_ touched: [Int], width: Int, pieces: [Range<Int>], stride: Int) -> Int {
    let integer = MemoryLayout<Int>.stride
    let own = pieces[rank].count
    let all = touched.reduce(0, +) * (width * stride + integer)
    let travels = all < (pieces.last?.upperBound ?? 0) * stride * size
    // A piece may begin and end within a row.
    let rows = touched.indices.filter { $0 != rank }.map { min(touched[$0], own == 0 ? 0 : own / width + 2) }
    // Lengths and counts, then numbers.
    let numbers = 2 * (size - 1) * integer + rows.reduce(0) { $0 + $1 * integer }
    return numbers
      + (travels ? rows.reduce(0) { $0 + min($1 * width, own) * stride } : reduceScatter(pieces, stride: stride))
  }

  /// A sum, or another reduction, of `count` elements that all ranks get.
  public func allReduce(_ count: Int, stride: Int) -> Int {
    let own = Communicator.slice(of: count, rank: rank, size: size).count
    return ((size - 1) * own + count - own) * stride
  }
}
