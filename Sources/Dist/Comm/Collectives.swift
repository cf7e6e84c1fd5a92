internal import CMPI
internal import Foundation
public import Tensor

// Every rank must call these, in the same order and with matching sizes. Sizes that contradict each other within one
// call are programming errors and trap; errors that MPI reports are thrown.

/// The operation that combines the ranks' numbers in a reduction.
public enum Reduction: Sendable {
  case sum, maximum
  fileprivate var operation: MPI_Op { unsafe self == .sum ? kinship_mpi_sum() : kinship_mpi_max() }
}

/// A number that ranks reduce: `Double` or `Int`.
public protocol ReducibleNumber: BitwiseCopyable {}
extension Double: ReducibleNumber {}
extension Int: ReducibleNumber {}

extension Communicator {
  /// Replaces each element by its sum over the ranks. All ranks get the same bits.
  public func allReduce<S: Scalar>(_ values: Tensor<S>) throws(MPIError) {
    try collective("allReduce") { () throws(MPIError) in
      unsafe try withElements(of: values) { base, count throws(MPIError) in
        unsafe try allReduce(base, count, .of(S.self), kinship_mpi_sum())
      }
    }
  }

  /// Replaces each number by its sum over the ranks, or by its maximum. All ranks get the same bits. Sums of integers
  /// wrap around beyond 64 bits. The maximum is undefined if any rank has a NaN.
  public func allReduce<Number: ReducibleNumber>(
    _ values: inout [Number], _ reduction: Reduction = .sum
  ) throws(MPIError) {
    let element = Number.self == Double.self ? ElementType.doubles : .integers
    try collective("allReduce") { () throws(MPIError) in
      unsafe try withElements(of: &values) { base, count throws(MPIError) in
        unsafe try allReduce(base, count, element, reduction.operation)
      }
    }
  }

  /// Returns the sum of one number over the ranks, or its maximum.
  public func allReduce<Number: ReducibleNumber>(
    _ value: Number, _ reduction: Reduction = .sum
  ) throws(MPIError) -> Number {
    var values = [value]
    try allReduce(&values, reduction)
    return values[0]
  }

  /// Sums `whole` over the ranks and gives each rank its own range of the sum. The ranges follow one another from 0.
  /// The same ranges and number of ranks give the same bits, which may differ from those of `allReduce`.
  public func reduceScatter<S: Scalar>(_ whole: Tensor<S>, into own: Tensor<S>, ranges: [Range<Int>]) throws(MPIError) {
    precondition(ranges.count == size, "\(ranges.count) ranges for \(size) ranks")
    precondition(ranges[0].lowerBound == 0 && ranges[size - 1].upperBound == whole.count, "ranges cover the whole")
    precondition(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound }, "ranges are adjacent")
    precondition(own.count == ranges[rank].count, "own holds \(own.count), the range has \(ranges[rank].count)")
    try collective("reduceScatter") { () throws(MPIError) in
      unsafe try withElements(of: whole) { source, _ throws(MPIError) in
        unsafe try withElements(of: own) { target, _ throws(MPIError) in
          unsafe try self.reduceScatter(source, into: target, ranges, .of(S.self))
        }
      }
    }
  }
}

extension Communicator {
  /// Fills `all` [N, d] with all ranks' rows. `local` [b, d] are this rank's `slice(of: N)`, perhaps in their place.
  public func allGather<S: Scalar>(rows local: Tensor<S>, into all: Tensor<S>) throws(MPIError) {
    let columns = all.columns
    precondition(local.columns == columns, "\(local.shape) gathered into \(all.shape)")
    let ranges = slices(of: all.rows).map { $0.lowerBound * columns..<$0.upperBound * columns }
    try gather(local, into: all, ranges)
  }

  /// Does the same for the elements of a vector.
  public func allGather<S: Scalar>(vector local: Tensor<S>, into all: Tensor<S>) throws(MPIError) {
    try gather(local, into: all, slices(of: all.count))
  }

  /// Gathers parts of a vector in place: `ranges[r]` of rank r overwrites that range on all other ranks.
  public func allGather<Element: BitwiseCopyable>(
    partsOf whole: Tensor<Element>, ranges: [Range<Int>]
  ) throws(MPIError) {
    precondition(ranges.count == size, "\(ranges.count) ranges for \(size) ranks")
    precondition(
      ranges.allSatisfy { $0.lowerBound >= 0 && $0.upperBound <= whole.count }, "ranges within \(whole.shape)")
    try gather(whole.slice(ranges[rank]), into: whole, ranges)
  }

  private func gather<Element: BitwiseCopyable>(
    _ local: Tensor<Element>, into all: Tensor<Element>, _ ranges: [Range<Int>]
  ) throws(MPIError) {
    let own = ranges[rank]
    precondition(local.count == own.count, "rank \(rank) gives \(local.count) elements, its share is \(own.count)")
    try collective("allGather") { () throws(MPIError) in
      unsafe try withElements(of: local) { source, _ throws(MPIError) in
        unsafe try withElements(of: all) { target, _ throws(MPIError) in
          unsafe try gatherBlocks(source, into: target, ranges, .of(Element.self))
        }
      }
    }
  }

  /// Returns every rank's bytes, in rank order, on every rank. The lengths may differ.
  public func allGather(_ bytes: [UInt8]) throws(MPIError) -> [[UInt8]] {
    try collective("allGather") { () throws(MPIError) in
      var lengths = [Int](repeating: 0, count: size)
      lengths[rank] = bytes.count
      unsafe try withElements(of: &lengths) { base, count throws(MPIError) in
        unsafe try allReduce(base, count, .integers, kinship_mpi_sum())
      }
      let ranges = lengths.endToEnd
      var all = [UInt8](repeating: 0, count: lengths.reduce(0, +))
      all.replaceSubrange(ranges[rank], with: bytes)
      unsafe try withElements(of: &all) { base, _ throws(MPIError) in
        unsafe try gatherBlocks(base + ranges[rank].lowerBound, into: base, ranges, .bytes)
      }
      return ranges.map { Array(all[$0]) }
    }
  }

  /// Returns every rank's bytes, in rank order, on rank 0, and nil on the others. The lengths may differ. What only one
  /// rank reads is not worth the memory and the time of all.
  public func gather(_ bytes: [UInt8]) throws(MPIError) -> [[UInt8]]? {
    try collective("gather") { () throws(MPIError) in
      var lengths = [Int](repeating: 0, count: size)
      lengths[rank] = bytes.count
      unsafe try withElements(of: &lengths) { base, count throws(MPIError) in
        unsafe try allReduce(base, count, .integers, kinship_mpi_sum())
      }
      let ranges = lengths.endToEnd
      // One more byte, because an empty array has no address.
      var (own, all) = (bytes + [0], [UInt8](repeating: 0, count: rank == 0 ? ranges.total + 1 : 1))
      unsafe try withElements(of: &own) { source, _ throws(MPIError) in
        unsafe try withElements(of: &all) { target, _ throws(MPIError) in
          unsafe try gatherBlocksOnRoot(source, into: rank == 0 ? target : nil, ranges, .bytes)
        }
      }
      return rank == 0 ? ranges.map { Array(all[$0]) } : nil
    }
  }

  /// Returns every rank's value, in rank order, on rank 0, and nil on the others.
  public func gather<Value: Codable>(_ value: Value) throws -> [Value]? {
    try gather(Array(JSONEncoder().encode(value)))?.map { try JSONDecoder().decode(Value.self, from: Data($0)) }
  }

  /// Fills `whole` on rank 0 with the ranks' parts, of which `local` is this rank's; the others need no `whole`.
  public func gather<S: Scalar>(
    _ local: Tensor<S>, into whole: Tensor<S>?, ranges: [Range<Int>]
  ) throws(MPIError) {
    precondition(ranges.count == size, "\(ranges.count) ranges for \(size) ranks")
    precondition(local.count == ranges[rank].count, "\(local.shape) for \(ranges[rank])")
    let room = rank == 0 ? whole?.count ?? 0 : .max
    precondition(ranges.allSatisfy { $0.upperBound <= room }, "room for \(room) of \(ranges)")
    try collective("gather") { () throws(MPIError) in
      unsafe try withElements(of: local) { source, _ throws(MPIError) in
        guard rank == 0, let whole else {
          return unsafe try gatherBlocksOnRoot(source, into: nil, ranges, .of(S.self))
        }
        unsafe try withElements(of: whole) { target, _ throws(MPIError) in
          unsafe try gatherBlocksOnRoot(source, into: target, ranges, .of(S.self))
        }
      }
    }
  }

  /// Returns every rank's value, in rank order, on every rank.
  public func allGather<Value: Codable>(_ value: Value) throws -> [Value] {
    try allGather(Array(JSONEncoder().encode(value))).map { try JSONDecoder().decode(Value.self, from: Data($0)) }
  }
}

extension Communicator {
  /// Sends a block of elements to each rank and receives one from each. The blocks lie end to end in rank order in
  /// `sent` and `received`, with `counts` and `lengths` elements, the counts of the sending ranks.
  public func allToAll<Element: BitwiseCopyable>(
    _ sent: Tensor<Element>, counts: [Int], into received: Tensor<Element>, lengths: [Int]
  ) throws(MPIError) {
    let (out, into) = (counts.endToEnd, lengths.endToEnd)
    precondition(out.count == size && into.count == size, "blocks of \(size) ranks")
    precondition(out[size - 1].upperBound == sent.count && into[size - 1].upperBound == received.count, "blocks")
    try allToAll(sent, out, into: received, into)
  }

  /// Does the same for blocks at any place: `out[r]` of `sent` goes to rank r, whose block comes to `into[r]` of
  /// `received`, which must be other memory. A block may go to several ranks. All ranks must pass the rounds of one map
  /// of nodes, or none.
  func allToAll<Element: BitwiseCopyable>(
    _ sent: Tensor<Element>, _ out: [Range<Int>], into received: Tensor<Element>, _ into: [Range<Int>],
    in rounds: ExchangeRounds? = nil
  ) throws(MPIError) {
    precondition(out.count == size && into.count == size, "blocks of \(size) ranks")
    precondition(out.allSatisfy { $0.lowerBound >= 0 && $0.upperBound <= sent.count }, "blocks within \(sent.shape)")
    precondition(
      into.allSatisfy { $0.lowerBound >= 0 && $0.upperBound <= received.count }, "blocks within \(received.shape)")
    precondition(out[rank].count == into[rank].count, "a rank's block for itself")
    try collective("allToAll") { () throws(MPIError) in
      unsafe try withElements(of: sent) { source, _ throws(MPIError) in
        unsafe try withElements(of: received) { target, _ throws(MPIError) in
          unsafe try allToAll(source, sent: out, into: target, received: into, .of(Element.self), in: rounds ?? order)
        }
      }
    }
  }
}

extension Communicator {
  /// Copies the tensor of rank `root` to all ranks.
  public func broadcast<S: Scalar>(_ values: Tensor<S>, root: Int = 0) throws(MPIError) {
    try collective("broadcast") { () throws(MPIError) in
      unsafe try withElements(of: values) { base, count throws(MPIError) in
        unsafe try broadcast(base, count, .of(S.self), root: root)
      }
    }
  }

  /// Replaces the bytes of every rank by those of rank `root`. The lengths may differ.
  public func broadcast(_ bytes: inout [UInt8], root: Int = 0) throws(MPIError) {
    try collective("broadcast") { () throws(MPIError) in
      var length = [bytes.count]
      unsafe try withElements(of: &length) { base, count throws(MPIError) in
        unsafe try broadcast(base, count, .integers, root: root)
      }
      if rank != root { bytes = [UInt8](repeating: 0, count: length[0]) }
      unsafe try withElements(of: &bytes) { base, count throws(MPIError) in
        unsafe try broadcast(base, count, .bytes, root: root)
      }
    }
  }

  /// Returns on every rank what rank 0 makes; the others do not call `make`. If it throws, all ranks throw that error.
  public func broadcast<Value: Codable>(_ make: () throws -> Value) throws -> Value {
    var bytes: [UInt8] = []
    var failure: (any Error)?
    if rank == 0 {
      do { bytes = [0] + Array(try JSONEncoder().encode(make())) } catch {
        (failure, bytes) = (error, RankError.bytes(of: error))
      }
    }
    try broadcast(&bytes)
    if let failure { throw failure }
    guard bytes[0] == 0 else { throw RankError(bytes: bytes) }
    return try JSONDecoder().decode(Value.self, from: Data(bytes.dropFirst()))
  }

  /// Waits until all ranks have called it.
  public func barrier() throws(MPIError) {
    try collective("barrier") { () throws(MPIError) in unsafe try rawBarrier() }
  }

  /// Does the same for waits that may be long: it polls and sleeps in between, which leaves the core to other threads.
  public func patientBarrier() throws(MPIError) {
    try collective("patient barrier") { () throws(MPIError) in unsafe try rawPatientBarrier() }
  }
}
