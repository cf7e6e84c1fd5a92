internal import CMPI
public import Tensor

// Every rank calls these, in the same order and with agreeing sizes. A size that contradicts another argument of the
// same call is our own mistake and traps; what MPI reports is thrown.

// MARK: Reductions

extension Communicator {
  /// Replaces each element by its sum over the ranks. All ranks get the same bits.
  public func sum<S: Scalar>(_ values: Tensor<S>) throws(MPIError) {
    try collective("sum") { () throws(MPIError) in
      unsafe try lend(values) { base, count throws(MPIError) in
        unsafe try allReduce(base, count, .of(S.self), kinship_mpi_sum())
      }
    }
  }

  /// Replaces each number by its sum over the ranks. All ranks get the same bits.
  public func sum(_ values: inout [Double]) throws(MPIError) {
    unsafe try reduce("sum", &values, .doubles, kinship_mpi_sum())
  }

  /// Replaces each number by its sum over the ranks; wraps around beyond 64 bits.
  public func sum(_ values: inout [Int]) throws(MPIError) {
    unsafe try reduce("sum", &values, .integers, kinship_mpi_sum())
  }

  /// Replaces each number by its maximum over the ranks. Where a rank has a NaN the result is not defined.
  public func maximum(_ values: inout [Double]) throws(MPIError) {
    unsafe try reduce("maximum", &values, .doubles, kinship_mpi_max())
  }

  private func reduce<Element: BitwiseCopyable>(
    _ name: StaticString, _ values: inout [Element], _ wire: Wire, _ operation: MPI_Op
  ) throws(MPIError) {
    try collective(name) { () throws(MPIError) in
      unsafe try lend(&values) { base, count throws(MPIError) in
        unsafe try allReduce(base, count, wire, operation)
      }
    }
  }

  /// Sums `whole` over the ranks and gives each rank its own range of the sum.
  ///
  /// - Parameters:
  ///   - whole: as many elements as all ranges together; unchanged.
  ///   - own: `ranges[rank].count` elements, outside of `whole`.
  ///   - ranges: one a rank, each beginning where the one before it ends, the first at 0; some may be empty.
  ///
  /// Equal ranges on as many ranks give equal bits; `sum` may give others.
  public func reduceScatter<S: Scalar>(
    _ whole: Tensor<S>, into own: Tensor<S>, ranges: [Range<Int>]
  ) throws(MPIError) {
    precondition(ranges.count == size, "\(ranges.count) ranges for \(size) ranks")
    precondition(ranges[0].lowerBound == 0 && ranges[size - 1].upperBound == whole.count, "ranges cover the whole")
    precondition(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound }, "ranges are adjacent")
    precondition(own.count == ranges[rank].count, "own holds \(own.count), the range has \(ranges[rank].count)")
    try collective("reduceScatter") { () throws(MPIError) in
      unsafe try lend(whole) { source, _ throws(MPIError) in
        unsafe try lend(own) { target, _ throws(MPIError) in
          unsafe try self.reduceScatter(source, into: target, ranges, .of(S.self))
        }
      }
    }
  }
}

// MARK: Gathering

extension Communicator {
  /// Collects matrix rows that are spread over the ranks.
  ///
  /// - Parameters:
  ///   - local: [b, d], the rows `slice(of: N)` of this rank; may be that very part of `all`.
  ///   - all: [N, d], filled on every rank.
  public func gatherRows<S: Scalar>(_ local: Tensor<S>, into all: Tensor<S>) throws(MPIError) {
    let columns = all.columns
    precondition(local.columns == columns, "\(local.shape) gathered into \(all.shape)")
    let ranges = slices(of: all.rows).map { $0.lowerBound * columns..<$0.upperBound * columns }
    try gather("gatherRows", local, into: all, ranges)
  }

  /// Collects a vector whose parts are spread over the ranks.
  ///
  /// - Parameters:
  ///   - local: the elements `slice(of: N)` of this rank; may be that very part of `all`.
  ///   - all: N elements, filled on every rank.
  public func gatherVector<S: Scalar>(_ local: Tensor<S>, into all: Tensor<S>) throws(MPIError) {
    try gather("gatherVector", local, into: all, slices(of: all.count))
  }

  /// Shares out parts of a vector that every rank has: `ranges[r]` of rank r overwrites that of all others.
  ///
  /// The ranges are one a rank and do not overlap; what no range covers is left alone.
  public func gatherSlices<S: Scalar>(in whole: Tensor<S>, ranges: [Range<Int>]) throws(MPIError) {
    precondition(ranges.count == size, "\(ranges.count) ranges for \(size) ranks")
    precondition(
      ranges.allSatisfy { $0.lowerBound >= 0 && $0.upperBound <= whole.count }, "ranges within \(whole.shape)")
    try gather("gatherSlices", whole.slice(ranges[rank]), into: whole, ranges)
  }

  private func gather<S: Scalar>(
    _ name: StaticString, _ local: Tensor<S>, into all: Tensor<S>, _ ranges: [Range<Int>]
  ) throws(MPIError) {
    let own = ranges[rank]
    precondition(local.count == own.count, "rank \(rank) gives \(local.count) elements, its share is \(own.count)")
    try collective(name) { () throws(MPIError) in
      unsafe try lend(local) { source, _ throws(MPIError) in
        unsafe try lend(all) { target, _ throws(MPIError) in
          unsafe try gatherBlocks(source, into: target, ranges, .of(S.self))
        }
      }
    }
  }

  /// Every rank's bytes, in rank order, on every rank. The lengths may differ.
  public func allGather(_ bytes: [UInt8]) throws(MPIError) -> [[UInt8]] {
    try collective("allGather") { () throws(MPIError) in
      var lengths = [Int](repeating: 0, count: size)
      lengths[rank] = bytes.count
      unsafe try lend(&lengths) { base, count throws(MPIError) in
        unsafe try allReduce(base, count, .integers, kinship_mpi_sum())
      }
      var ranges: [Range<Int>] = []
      for length in lengths {
        let start = ranges.last?.upperBound ?? 0
        ranges.append(start..<start + length)
      }
      var all = [UInt8](repeating: 0, count: lengths.reduce(0, +))
      all.replaceSubrange(ranges[rank], with: bytes)
      unsafe try lend(&all) { base, _ throws(MPIError) in
        unsafe try gatherBlocks(base + ranges[rank].lowerBound, into: base, ranges, .bytes)
      }
      return ranges.map { Array(all[$0]) }
    }
  }
}

// MARK: Exchange

extension Communicator {
  /// Gives each rank a block of its own, and takes one from each.
  ///
  /// - Parameters:
  ///   - sent: the blocks for all ranks, end to end in rank order.
  ///   - counts: how many elements each has.
  ///   - received: the blocks from all ranks, in the same way; filled.
  ///   - lengths: how many elements each has, by the `counts` of the other ranks.
  public func exchange<S: Scalar>(
    _ sent: Tensor<S>, _ counts: [Int], into received: Tensor<S>, _ lengths: [Int]
  ) throws(MPIError) {
    let (out, into) = (Self.endToEnd(counts), Self.endToEnd(lengths))
    precondition(out.count == size && into.count == size, "blocks of \(size) ranks")
    precondition(out[size - 1].upperBound == sent.count && into[size - 1].upperBound == received.count, "blocks")
    precondition(counts[rank] == lengths[rank], "a rank's block for itself")
    try collective("exchange") { () throws(MPIError) in
      unsafe try lend(sent) { source, _ throws(MPIError) in
        unsafe try lend(received) { target, _ throws(MPIError) in
          unsafe try exchangeBlocks(source, out, into: target, into, .of(S.self))
        }
      }
    }
  }

  /// Gives each rank a list of its own, and takes one from each. Their lengths may differ.
  ///
  /// - Parameters:
  ///   - sent: the lists end to end, `counts[r]` numbers for rank r.
  ///   - received: gets the others' lists end to end in the order of the ranks, in the memory that it has where that is
  ///     enough.
  /// - Returns: where in `received` each rank's list is.
  public func exchange(
    _ sent: inout [Int], _ counts: [Int], into received: inout [Int]
  ) throws(MPIError) -> [Range<Int>] {
    precondition(
      counts.count == size && counts.reduce(0, +) == sent.count, "\(counts) of \(sent.count) for \(size) ranks")
    var counts = counts
    return try collective("exchange") { () throws(MPIError) in
      var lengths = [Int](repeating: 0, count: size)
      unsafe try lend(&counts) { source, _ throws(MPIError) in
        unsafe try lend(&lengths) { target, _ throws(MPIError) in
          unsafe try allToAll(source, into: target, .integers)
        }
      }
      let (out, into) = (Self.endToEnd(counts), Self.endToEnd(lengths))
      // One more than is exchanged, for an array without elements has no address.
      sent.append(0)
      defer { sent.removeLast() }
      let room = into[size - 1].upperBound + 1
      while received.count < room { received.append(0) }
      unsafe try lend(&sent) { source, _ throws(MPIError) in
        unsafe try lend(&received) { target, _ throws(MPIError) in
          unsafe try exchangeBlocks(source, out, into: target, into, .integers)
        }
      }
      return into
    }
  }

  private static func endToEnd(_ counts: [Int]) -> [Range<Int>] {
    var end = 0
    return counts.map { count in
      defer { end += count }
      return end..<end + count
    }
  }
}

// MARK: Broadcast and barrier

extension Communicator {
  /// Copies the tensor of rank `root` to all ranks.
  public func broadcast<S: Scalar>(_ values: Tensor<S>, root: Int = 0) throws(MPIError) {
    try collective("broadcast") { () throws(MPIError) in
      unsafe try lend(values) { base, count throws(MPIError) in
        unsafe try broadcast(base, count, .of(S.self), root: root)
      }
    }
  }

  /// Replaces the bytes of every rank by those of rank `root`, whatever their number.
  public func broadcast(_ bytes: inout [UInt8], root: Int = 0) throws(MPIError) {
    try collective("broadcast") { () throws(MPIError) in
      var length = [bytes.count]
      unsafe try lend(&length) { base, count throws(MPIError) in
        unsafe try broadcast(base, count, .integers, root: root)
      }
      if rank != root { bytes = [UInt8](repeating: 0, count: length[0]) }
      unsafe try lend(&bytes) { base, count throws(MPIError) in
        unsafe try broadcast(base, count, .bytes, root: root)
      }
    }
  }

  /// Waits until all ranks have come here.
  public func barrier() throws(MPIError) {
    try collective("barrier") { () throws(MPIError) in unsafe try meet() }
  }

  /// The same where the wait may be long and the core belongs to others: looks now and then, and sleeps in between.
  public func patientBarrier() throws(MPIError) {
    try collective("patient barrier") { () throws(MPIError) in unsafe try meetPatiently() }
  }
}
