internal import CMPI
internal import Foundation
internal import Tensor

/// What travels: MPI's name for an element, and its size.
@safe
struct Wire {
  let type: MPI_Datatype
  let stride: Int

  static var bytes: Wire { unsafe Wire(type: kinship_mpi_byte(), stride: 1) }
  static var integers: Wire { unsafe Wire(type: kinship_mpi_int64(), stride: 8) }
  static var doubles: Wire { unsafe Wire(type: kinship_mpi_double(), stride: 8) }

  static func of<S: Scalar>(_ scalar: S.Type) -> Wire {
    if S.self == Double.self { return doubles }
    precondition(S.self == Float.self, "\(S.self) has no form on the wire")
    return unsafe Wire(type: kinship_mpi_float(), stride: 4)
  }
}

/// The raw collectives over untyped memory, with messages split at the communicator's limit. The one file in which
/// the collectives of MPI are called.
extension Communicator {
  func check(_ call: StaticString, _ code: Int32) throws(MPIError) {
    try caller.check(call, code, in: "\(ledger.last)")
  }

  /// Runs one collective under its name in the ledger.
  func collective<R>(_ name: StaticString, _ body: () throws(MPIError) -> R) throws(MPIError) -> R {
    ledger.enter(name)
    defer { ledger.leave() }
    return try Trace.span("\(name)", .communication, body)
  }

  /// Lends out a tensor's elements: their address and number.
  func lend<S: Scalar>(
    _ tensor: Tensor<S>, _ body: (UnsafeMutableRawPointer, Int) throws(MPIError) -> Void
  ) throws(MPIError) {
    try unsafe tensor.withUnsafeMutableBuffer { buffer throws(MPIError) in
      if let base = buffer.baseAddress { unsafe try body(UnsafeMutableRawPointer(base), buffer.count) }
    }
  }

  /// Lends out an array's elements. An empty array may have no address: the body does not run then.
  func lend<Element: BitwiseCopyable>(
    _ array: inout [Element], _ body: (UnsafeMutableRawPointer, Int) throws(MPIError) -> Void
  ) throws(MPIError) {
    try unsafe array.withUnsafeMutableBufferPointer { buffer throws(MPIError) in
      if let base = buffer.baseAddress { unsafe try body(UnsafeMutableRawPointer(base), buffer.count) }
    }
  }

  /// `count` elements, replaced by their reduction over the ranks; in pieces that stay in the caches.
  @unsafe func allReduce(
    _ base: UnsafeMutableRawPointer, _ count: Int, _ wire: Wire, _ operation: MPI_Op
  ) throws(MPIError) {
    ledger.add(bytes: traffic.allReduce(count, stride: wire.stride))
    for piece in pieces(0..<count, of: reductionPiece) {
      unsafe try check(
        "MPI_Allreduce",
        MPI_Allreduce(
          kinship_mpi_in_place(), base + piece.lowerBound * wire.stride, Int32(piece.count), wire.type, operation,
          handle))
    }
  }

  /// `count` elements of `root`, copied to all ranks.
  @unsafe func broadcast(
    _ base: UnsafeMutableRawPointer, _ count: Int, _ wire: Wire, root: Int
  ) throws(MPIError) {
    if rank != root { ledger.add(bytes: count * wire.stride) }
    for piece in pieces(0..<count, of: limit) {
      unsafe try check(
        "MPI_Bcast",
        MPI_Bcast(
          base + piece.lowerBound * wire.stride, Int32(piece.count), wire.type, Int32(truncatingIfNeeded: root),
          handle))
    }
  }

  /// Fills `ranges[r]` of `whole` with the block of rank r, for every r. `block` holds this rank's elements; if it
  /// lies in its place in `whole` already, nothing is copied.
  ///
  /// Where positions exceed the limit each block is broadcast in pieces instead: the volume is the same.
  @unsafe func gatherBlocks(
    _ block: UnsafeRawPointer, into whole: UnsafeMutableRawPointer, _ ranges: [Range<Int>], _ wire: Wire
  ) throws(MPIError) {
    let own = ranges[rank]
    let place = unsafe whole + own.lowerBound * wire.stride
    let inPlace = unsafe block == UnsafeRawPointer(place)
    if ranges.allSatisfy({ $0.upperBound <= limit }) {
      ledger.add(bytes: traffic.gather(ranges, stride: wire.stride))
      let counts = ranges.map { Int32($0.count) }
      let offsets = ranges.map { Int32($0.lowerBound) }
      unsafe try check(
        "MPI_Allgatherv",
        MPI_Allgatherv(
          inPlace ? kinship_mpi_in_place() : block, Int32(own.count), wire.type, whole, counts, offsets, wire.type,
          handle))
    } else {
      if !inPlace { unsafe place.copyMemory(from: block, byteCount: own.count * wire.stride) }
      for (root, range) in ranges.enumerated() {
        unsafe try broadcast(whole + range.lowerBound * wire.stride, range.count, wire, root: root)
      }
    }
  }

  /// Puts the sum over ranks of `ranges[rank]` of `whole` into `own`. The ranges follow one another from 0.
  ///
  /// More than one piece is sent in rounds: each takes the next few elements of every rank's range, laid side by side.
  @unsafe func reduceScatter(
    _ whole: UnsafeRawPointer, into own: UnsafeMutableRawPointer, _ ranges: [Range<Int>], _ wire: Wire
  ) throws(MPIError) {
    ledger.add(bytes: traffic.reduceScatter(ranges, stride: wire.stride))
    if ranges[size - 1].upperBound <= reductionPiece {
      let counts = ranges.map { Int32($0.count) }
      unsafe try check(
        "MPI_Reduce_scatter", MPI_Reduce_scatter(whole, own, counts, wire.type, kinship_mpi_sum(), handle))
      return
    }
    let share = max(reductionPiece / size, 1)
    var counts = [Int32](repeating: 0, count: size)
    unsafe try lend(staging(bytes: share * size * wire.stride)) { stage, _ throws(MPIError) in
      for start in stride(from: 0, to: ranges.map(\.count).max() ?? 0, by: share) {
        var filled = 0
        for (rank, range) in ranges.enumerated() {
          let count = min(max(range.count - start, 0), share)
          unsafe (stage + filled * wire.stride).copyMemory(
            from: whole + (range.lowerBound + start) * wire.stride, byteCount: count * wire.stride)
          counts[rank] = Int32(count)
          filled += count
        }
        let target = unsafe own + min(start, ranges[rank].count) * wire.stride
        unsafe try check(
          "MPI_Reduce_scatter", MPI_Reduce_scatter(stage, target, counts, wire.type, kinship_mpi_sum(), handle))
      }
    }
  }

  /// Gives each rank one element, and takes one from each.
  @unsafe func allToAll(
    _ source: UnsafeRawPointer, into target: UnsafeMutableRawPointer, _ wire: Wire
  ) throws(MPIError) {
    ledger.add(bytes: (size - 1) * wire.stride)
    unsafe try check("MPI_Alltoall", MPI_Alltoall(source, 1, wire.type, target, 1, wire.type, handle))
  }

  /// Sends block `sent[r]` of `source` to each rank r, and puts what comes from it into `received[r]` of `target`.
  ///
  /// Pairs of ranks that have nothing for each other send nothing.
  @unsafe func exchangeBlocks(
    _ source: UnsafeRawPointer, _ sent: [Range<Int>], into target: UnsafeMutableRawPointer, _ received: [Range<Int>],
    _ wire: Wire
  ) throws(MPIError) {
    let stride = wire.stride
    unsafe (target + received[rank].lowerBound * stride).copyMemory(
      from: source + sent[rank].lowerBound * stride, byteCount: sent[rank].count * stride)
    for distance in 1..<max(size, 1) {
      let (to, from) = ((rank + distance) % size, (rank + size - distance) % size)
      let (out, into) = (sent[to], received[from])
      ledger.add(bytes: into.count * stride)
      for start in Swift.stride(from: 0, to: max(out.count, into.count), by: limit) {
        let (gives, takes) = (min(max(out.count - start, 0), limit), min(max(into.count - start, 0), limit))
        unsafe try check(
          "MPI_Sendrecv",
          MPI_Sendrecv(
            source + (out.lowerBound + min(start, out.count)) * stride, Int32(gives), wire.type,
            gives > 0 ? Int32(to) : MPI_PROC_NULL, 0, target + (into.lowerBound + min(start, into.count)) * stride,
            Int32(takes), wire.type, takes > 0 ? Int32(from) : MPI_PROC_NULL, 0, handle,
            nil))
      }
    }
  }

  private var traffic: Traffic { Traffic(rank: rank, size: size) }

  /// Elements of one message of a reduction. MPI makes temporary copies of what it reduces: of 120 MB at once it made
  /// four times the work of pieces that fit the caches (measured on two ranks of one machine).
  private var reductionPiece: Int { min(limit, 1 << 20) }

  /// Looks after a millisecond, then after longer and longer times, up to a twentieth of a second.
  @unsafe func meetPatiently() throws(MPIError) {
    var request: MPI_Request?
    unsafe try check("MPI_Ibarrier", MPI_Ibarrier(handle, &request))
    var interval = 0.001
    var isOver: Int32 = 0
    while true {
      unsafe try check("MPI_Test", MPI_Test(&request, &isOver, nil))
      if isOver != 0 { return }
      Thread.sleep(forTimeInterval: interval)
      interval = min(1.5 * interval, 0.05)
    }
  }

  @unsafe func meet() throws(MPIError) {
    unsafe try check("MPI_Barrier", MPI_Barrier(handle))
  }

  /// `range` in consecutive pieces of at most `size`.
  private func pieces(_ range: Range<Int>, of size: Int) -> some Sequence<Range<Int>> {
    stride(from: range.lowerBound, to: range.upperBound, by: size).lazy.map { $0..<min($0 + size, range.upperBound) }
  }
}
