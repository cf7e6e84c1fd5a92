internal import CMPI
internal import Foundation
public import Tensor

/// The type of the elements in a message: MPI's handle, and the size in bytes.
@safe
struct ElementType {
  let type: MPI_Datatype
  let stride: Int
  static var bytes: ElementType { unsafe ElementType(type: kinship_mpi_byte(), stride: 1) }
  static var integers: ElementType { unsafe ElementType(type: kinship_mpi_int64(), stride: 8) }
  static var doubles: ElementType { unsafe ElementType(type: kinship_mpi_double(), stride: 8) }

  /// The type of Float, Double, Int, or UInt16, which bfloat16 numbers are stored as.
  static func of<Element: BitwiseCopyable>(_ element: Element.Type) -> ElementType {
    if Element.self == Double.self { return doubles }
    if Element.self == Int.self { return integers }
    if Element.self == UInt16.self { return unsafe ElementType(type: kinship_mpi_uint16(), stride: 2) }
    precondition(Element.self == Float.self, "\(Element.self) has no MPI data type")
    return unsafe ElementType(type: kinship_mpi_float(), stride: 4)
  }
}

/// The raw collectives, with messages split at the communicator's limit. Only this file calls MPI's collectives.
extension Communicator {
  func check(_ call: StaticString, _ code: Int32) throws(MPIError) {
    try caller.check(call, code, in: "\(ledger.last)")
  }

  /// Runs one collective and records it in the ledger and the trace under `name`.
  func collective<R>(_ name: StaticString, _ body: () throws(MPIError) -> R) throws(MPIError) -> R {
    ledger.enter(name)
    defer { ledger.leave() }
    return try Trace.span("\(name)", .communication, body)
  }

  /// Calls `body` with the address and the number of a tensor's elements.
  func withElements<Element: BitwiseCopyable>(
    of tensor: Tensor<Element>, _ body: (UnsafeMutableRawPointer, Int) throws(MPIError) -> Void
  ) throws(MPIError) {
    try unsafe tensor.withUnsafeMutableBuffer { buffer throws(MPIError) in
      if let base = buffer.baseAddress { unsafe try body(UnsafeMutableRawPointer(base), buffer.count) }
    }
  }

  /// Does the same for an array. An empty array may have no address; then `body` does not run.
  func withElements<Element: BitwiseCopyable>(
    of array: inout [Element], _ body: (UnsafeMutableRawPointer, Int) throws(MPIError) -> Void
  ) throws(MPIError) {
    try unsafe array.withUnsafeMutableBufferPointer { buffer throws(MPIError) in
      if let base = buffer.baseAddress { unsafe try body(UnsafeMutableRawPointer(base), buffer.count) }
    }
  }

  /// Replaces `count` elements by their reduction over the ranks, in pieces that fit the caches.
  @unsafe func allReduce(
    _ base: UnsafeMutableRawPointer, _ count: Int, _ element: ElementType, _ operation: MPI_Op
  ) throws(MPIError) {
    ledger.add(bytes: traffic.allReduce(count, stride: element.stride))
    for piece in pieces(0..<count, of: reductionPiece) {
      unsafe try check(
        "MPI_Allreduce",
        MPI_Allreduce(
          kinship_mpi_in_place(), base + piece.lowerBound * element.stride, Int32(piece.count), element.type, operation,
          handle))
    }
  }

  /// Copies `count` elements of rank `root` to all ranks.
  @unsafe func broadcast(
    _ base: UnsafeMutableRawPointer, _ count: Int, _ element: ElementType, root: Int
  ) throws(MPIError) {
    if rank != root { ledger.add(bytes: count * element.stride) }
    for piece in pieces(0..<count, of: limit) {
      unsafe try check(
        "MPI_Bcast",
        MPI_Bcast(
          base + piece.lowerBound * element.stride, Int32(piece.count), element.type, Int32(truncatingIfNeeded: root),
          handle))
    }
  }

  /// Fills `ranges[r]` of `whole` with the block of rank r, for every r. `block` holds this rank's elements; it may lie
  /// in its place in `whole`. If positions exceed the limit, each block is broadcast in pieces, with the same volume.
  @unsafe func gatherBlocks(
    _ block: UnsafeRawPointer, into whole: UnsafeMutableRawPointer, _ ranges: [Range<Int>], _ element: ElementType
  ) throws(MPIError) {
    let own = ranges[rank]
    let place = unsafe whole + own.lowerBound * element.stride
    let inPlace = unsafe block == UnsafeRawPointer(place)
    if ranges.allSatisfy({ $0.upperBound <= limit }) {
      ledger.add(bytes: traffic.gather(ranges, stride: element.stride))
      let counts = ranges.map { Int32($0.count) }
      let offsets = ranges.map { Int32($0.lowerBound) }
      unsafe try check(
        "MPI_Allgatherv",
        MPI_Allgatherv(
          inPlace ? kinship_mpi_in_place() : block, Int32(own.count), element.type, whole, counts, offsets,
          element.type, handle))
    } else {
      if !inPlace { unsafe place.copyMemory(from: block, byteCount: own.count * element.stride) }
      for (root, range) in ranges.enumerated() {
        unsafe try broadcast(whole + range.lowerBound * element.stride, range.count, element, root: root)
      }
    }
  }

  /// Does the same on rank 0 alone; the others need no `whole`.
  @unsafe func gatherBlocksOnRoot(
    _ block: UnsafeRawPointer, into whole: UnsafeMutableRawPointer?, _ ranges: [Range<Int>], _ element: ElementType
  ) throws(MPIError) {
    let (own, stride) = (ranges[rank], element.stride)
    let place = unsafe whole.map { unsafe $0 + own.lowerBound * stride }
    let inPlace = unsafe place.map { unsafe UnsafeRawPointer($0) == block } ?? false
    if rank == 0 { ledger.add(bytes: traffic.gather(ranges, stride: stride)) }
    if ranges.allSatisfy({ $0.upperBound <= limit }) {
      let counts = ranges.map { Int32($0.count) }
      let offsets = ranges.map { Int32($0.lowerBound) }
      return unsafe try check(
        "MPI_Gatherv",
        MPI_Gatherv(
          inPlace ? kinship_mpi_in_place() : block, Int32(own.count), element.type, whole, counts, offsets,
          element.type, 0, handle))
    }
    guard rank == 0, let whole = unsafe whole else {
      for piece in pieces(0..<own.count, of: limit) {
        unsafe try check(
          "MPI_Send",
          MPI_Send(block + piece.lowerBound * stride, Int32(piece.count), element.type, 0, 0, handle))
      }
      return
    }
    if !inPlace { unsafe place?.copyMemory(from: block, byteCount: own.count * stride) }
    for (peer, range) in ranges.enumerated().dropFirst() {
      for piece in pieces(range, of: limit) {
        unsafe try check(
          "MPI_Recv",
          MPI_Recv(
            whole + piece.lowerBound * stride, Int32(piece.count), element.type, Int32(peer), 0, handle,
            kinship_mpi_status_ignore()))
      }
    }
  }

  /// Stores the sum over the ranks of `ranges[rank]` of `whole` in `own`. The ranges follow one another from 0. Data
  /// that do not fit one piece are sent in rounds, each with the next few elements of every rank's range.
  @unsafe func reduceScatter(
    _ whole: UnsafeRawPointer, into own: UnsafeMutableRawPointer, _ ranges: [Range<Int>], _ element: ElementType
  ) throws(MPIError) {
    ledger.add(bytes: traffic.reduceScatter(ranges, stride: element.stride))
    if ranges[size - 1].upperBound <= reductionPiece {
      let counts = ranges.map { Int32($0.count) }
      return unsafe try check(
        "MPI_Reduce_scatter", MPI_Reduce_scatter(whole, own, counts, element.type, kinship_mpi_sum(), handle))
    }
    let share = max(reductionPiece / size, 1)
    var counts = [Int32](repeating: 0, count: size)
    unsafe try withElements(of: staging(bytes: share * size * element.stride)) { stage, _ throws(MPIError) in
      for start in stride(from: 0, to: ranges.map(\.count).max() ?? 0, by: share) {
        var filled = 0
        for (rank, range) in ranges.enumerated() {
          let count = min(max(range.count - start, 0), share)
          unsafe (stage + filled * element.stride).copyMemory(
            from: whole + (range.lowerBound + start) * element.stride, byteCount: count * element.stride)
          counts[rank] = Int32(count)
          filled += count
        }
        let target = unsafe own + min(start, ranges[rank].count) * element.stride
        unsafe try check(
          "MPI_Reduce_scatter", MPI_Reduce_scatter(stage, target, counts, element.type, kinship_mpi_sum(), handle))
      }
    }
  }

  /// Sends block `sent[r]` of `source` to each rank r, and stores its block in `received[r]` of `target`. A rank sends
  /// one block at a time, and receives one, in the order of `rounds`, which all ranks must have for the same ranks.
  @unsafe func allToAll(
    _ source: UnsafeRawPointer, sent: [Range<Int>], into target: UnsafeMutableRawPointer, received: [Range<Int>],
    _ element: ElementType, in rounds: ExchangeRounds
  ) throws(MPIError) {
    let stride = element.stride
    unsafe (target + received[rank].lowerBound * stride).copyMemory(
      from: source + sent[rank].lowerBound * stride, byteCount: sent[rank].count * stride)
    for peers in rounds.peers {
      let out = peers.to == rank ? 0..<0 : sent[peers.to]
      let into = peers.from == rank ? 0..<0 : received[peers.from]
      ledger.add(bytes: into.count * stride)
      for start in Swift.stride(from: 0, to: max(out.count, into.count), by: limit) {
        let (gives, takes) = (min(max(out.count - start, 0), limit), min(max(into.count - start, 0), limit))
        let to = gives > 0 ? Int32(peers.to) : MPI_PROC_NULL
        let from = takes > 0 ? Int32(peers.from) : MPI_PROC_NULL
        unsafe try check(
          "MPI_Sendrecv",
          MPI_Sendrecv(
            source + (out.lowerBound + min(start, out.count)) * stride, Int32(gives), element.type, to, 0,
            target + (into.lowerBound + min(start, into.count)) * stride, Int32(takes), element.type, from, 0, handle,
            nil))
      }
    }
  }

  private var traffic: Traffic { Traffic(rank: rank, size: size) }

  /// The number of elements in one message of a reduction. MPI makes temporary copies of what it reduces: 120 MB in one
  /// message took four times as long as pieces that fit the caches (measured with two ranks on one machine).
  private var reductionPiece: Int { min(limit, 1 << 20) }

  /// Polls a barrier after one millisecond, then at growing intervals of up to 50 ms, and sleeps in between.
  @unsafe func rawPatientBarrier() throws(MPIError) {
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

  @unsafe func rawBarrier() throws(MPIError) { unsafe try check("MPI_Barrier", MPI_Barrier(handle)) }

  private func pieces(_ range: Range<Int>, of size: Int) -> some Sequence<Range<Int>> {
    stride(from: range.lowerBound, to: range.upperBound, by: size).lazy.map { $0..<min($0 + size, range.upperBound) }
  }
}

/// Messages from one rank to another. Training sends none; they serve to measure the link between two ranks.
extension Communicator {
  /// Sends bytes to rank `peer`, which must receive the same number.
  public func send(_ bytes: inout [UInt8], to peer: Int) throws(MPIError) {
    precondition(bytes.count <= limit)
    try collective("send to a rank") { () throws(MPIError) in
      unsafe try withElements(of: &bytes) { base, count throws(MPIError) in
        unsafe try check("MPI_Send", MPI_Send(base, Int32(count), kinship_mpi_byte(), Int32(peer), 0, handle))
      }
    }
  }

  /// Replaces `bytes` by the same number of bytes from rank `peer`.
  public func receive(into bytes: inout [UInt8], from peer: Int) throws(MPIError) {
    precondition(bytes.count <= limit)
    try collective("receive from a rank") { () throws(MPIError) in
      unsafe try withElements(of: &bytes) { base, count throws(MPIError) in
        unsafe try check(
          "MPI_Recv",
          MPI_Recv(base, Int32(count), kinship_mpi_byte(), Int32(peer), 0, handle, kinship_mpi_status_ignore()))
      }
    }
  }
}

/// Counts the bytes that a rank receives in a collective if each piece travels once, and an all-reduce is a
/// reduce-scatter of equal shares and an all-gather. MPI may choose otherwise, and ranks of a node share memory.
public struct Traffic: Sendable, Equatable {
  public let rank: Int
  public let size: Int

  public init(rank: Int, size: Int) {
    precondition(size > 0 && (0..<size).contains(rank))
    (self.rank, self.size) = (rank, size)
  }

  /// Returns the bytes of a reduce-scatter: this rank's range, once from each other rank.
  public func reduceScatter(_ ranges: [Range<Int>], stride: Int) -> Int { (size - 1) * ranges[rank].count * stride }
  /// Returns the bytes of an all-gather: the ranges of all other ranks.
  public func gather(_ ranges: [Range<Int>], stride: Int) -> Int { (ranges.total - ranges[rank].count) * stride }

  /// Returns an upper bound on the bytes of a sum over touched rows (`TouchedRows`) of `width` elements of type S, as
  /// many as `touched` says of each rank, and `together` of the ranks of each node. If it is nil, no row is touched by
  /// two ranks of a node. Without levels each rank is a node.
  public func touchedRows<S: Scalar>(
    _ touched: [Int], together: [Int]? = nil, width: Int, pieces: [Range<Int>], _ scalar: S.Type,
    _ route: BucketRoute = BucketRoute()
  ) -> Int {
    let rows = MatrixRows(width: width, pieces: pieces)
    let map = route.nodes ?? NodeMap(ranks: size, ofNode: 1)
    let together = together ?? map.together(touched, of: rows.count)
    let node = map.node[rank]
    let (members, others) = (map.nodes[node].filter { $0 != rank }, map.nodes.indices.filter { $0 != node })
    let marks = members.count * rows.markBytes + others.count * rows.sentMarkBytes(to: rank)
    let bucket = Bucket(range: 0..<(pieces.last?.upperBound ?? 0), pieces: pieces)
    guard
      route.sendsRows(touched: together.reduce(0, +), width: width, of: bucket.range.count, ranks: size, S.self)
    else { return marks + route.reductionBytes(bucket, self, S.self) }
    let relayed = members.isEmpty ? 0 : map.owners(through: rank).reduce(0) { $0 + pieces[$1].count }
    let within = members.reduce(0) { $0 + min(touched[$1] * width, relayed) }
    let (own, most) = (pieces[rank].count, rows.rows(of: rank).count)
    let between = others.reduce(0) { $0 + min(min(together[$1], most) * width, own) }
    return marks + within * MemoryLayout<S>.stride + between * route.wire.stride(of: S.self)
  }

  /// Returns the bytes of an all-reduce of `count` elements.
  public func allReduce(_ count: Int, stride: Int) -> Int {
    let own = Communicator.slice(of: count, rank: rank, size: size).count
    return ((size - 1) * own + count - own) * stride
  }
}
