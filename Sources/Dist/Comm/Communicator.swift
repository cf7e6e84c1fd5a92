internal import CMPI
internal import Synchronization
internal import Tensor

/// All ranks of the job, or some of them, and the ways in which they meet.
///
/// A communicator of ours is a duplicate: nothing that other code sends can be taken for our messages. Every
/// method of `Collectives.swift` must be called by all ranks, in the same order. MPI allows one collective at a
/// time on a communicator, so a thread that communicates on its own takes a `duplicate()`. MPI releases
/// communicators when the job ends.
@safe
public final class Communicator: @unchecked Sendable {
  /// This process's number here, 0 ..< size.
  public let rank: Int
  /// How many processes meet here: all of the job, unless it was split.
  public let size: Int
  public let hostname: String
  /// This process's number among those of its node.
  public let nodeRank: Int
  /// How many ranks of the job run on this node.
  public let nodeSize: Int

  package let ledger: CollectiveLedger
  let handle: MPI_Comm?
  let caller: MPICaller
  /// The most elements that one message carries: MPI counts in 32 bits. Longer messages are split.
  let limit: Int
  /// Memory that reductions lay their pieces out in; kept, so that steps allocate nothing.
  private let stage = Mutex(Tensor<Double>(Shape(0)))

  /// The whole job. MPI must have been started.
  convenience init() throws(MPIError) {
    let world = unsafe kinship_mpi_comm_world()
    var caller = MPICaller()
    caller.host = try Self.processorName(caller)
    unsafe try caller.check("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(world, kinship_mpi_errors_return()))
    var rank: Int32 = 0
    unsafe try caller.check("MPI_Comm_rank", MPI_Comm_rank(world, &rank))
    caller.rank = Int(rank)
    let node = unsafe try Self.node(of: world, caller)
    unsafe try self.init(duplicating: world, name: "job", caller: caller, node: node, limit: Int(Int32.max))
  }

  private convenience init(
    duplicating original: MPI_Comm?, name: String, caller: MPICaller, node: (rank: Int, size: Int), limit: Int
  ) throws(MPIError) {
    var copy: MPI_Comm?
    unsafe try caller.check("MPI_Comm_dup", MPI_Comm_dup(original, &copy))
    unsafe try self.init(adopting: copy, name: name, caller: caller, node: node, limit: limit)
  }

  /// A communicator that nobody else uses.
  private init(
    adopting handle: MPI_Comm?, name: String, caller: MPICaller, node: (rank: Int, size: Int), limit: Int
  ) throws(MPIError) {
    unsafe try caller.check("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(handle, kinship_mpi_errors_return()))
    var rank: Int32 = 0
    var size: Int32 = 0
    unsafe try caller.check("MPI_Comm_rank", MPI_Comm_rank(handle, &rank))
    unsafe try caller.check("MPI_Comm_size", MPI_Comm_size(handle, &size))
    unsafe self.handle = handle
    ledger = CollectiveLedger(communicator: name)
    self.caller = caller
    self.limit = limit
    self.rank = Int(rank)
    self.size = Int(size)
    self.hostname = caller.host
    self.nodeRank = node.rank
    self.nodeSize = node.size
  }

  /// A communicator of the same ranks whose messages never meet this one's. All ranks must ask for it. The watchdog
  /// calls it by `name`.
  public func duplicate(name: String? = nil) throws(MPIError) -> Communicator {
    try duplicate(limit: limit, name: name)
  }

  /// The same, with another bound on the elements of one message, so that a test can see messages split.
  package func duplicate(limit: Int, name: String? = nil) throws(MPIError) -> Communicator {
    precondition(limit > 0 && limit <= Int(Int32.max))
    ledger.enter("duplicate")
    defer { ledger.leave() }
    return unsafe try Communicator(
      duplicating: handle, name: name ?? "copy of \(ledger.communicator)", caller: caller, node: (nodeRank, nodeSize),
      limit: limit)
  }

  /// The ranks that share this machine's memory, in their order here. All ranks must ask for it.
  public func node() throws(MPIError) -> Communicator {
    ledger.enter("node")
    defer { ledger.leave() }
    var node: MPI_Comm?
    unsafe try caller.check(
      "MPI_Comm_split_type",
      MPI_Comm_split_type(handle, Int32(MPI_COMM_TYPE_SHARED), Int32(rank), kinship_mpi_info_null(), &node))
    return unsafe try Communicator(
      adopting: node, name: "node of \(ledger.communicator)", caller: caller, node: (nodeRank, nodeSize), limit: limit)
  }

  /// The ranks that name the same group, in their order here. All ranks must ask for it.
  public func split(group: Int) throws(MPIError) -> Communicator {
    precondition(group >= 0 && group <= Int(Int32.max))
    ledger.enter("split")
    defer { ledger.leave() }
    var part: MPI_Comm?
    unsafe try caller.check("MPI_Comm_split", MPI_Comm_split(handle, Int32(group), Int32(rank), &part))
    return unsafe try Communicator(
      adopting: part, name: "part of \(ledger.communicator)", caller: caller, node: (nodeRank, nodeSize), limit: limit)
  }

  /// The rows that rank `rank` of `size` owns of `n`: ⌊rank·n/size⌋ ..< ⌊(rank+1)·n/size⌋.
  public static func slice(of n: Int, rank: Int, size: Int) -> Range<Int> {
    precondition(n >= 0 && size > 0 && rank >= 0 && rank < size, "rank \(rank) of \(size), \(n) rows")
    return share(rank, of: n, by: size)..<share(rank + 1, of: n, by: size)
  }

  /// ⌊part·n/size⌋ in full width: the product may exceed 64 bits.
  private static func share(_ part: Int, of n: Int, by size: Int) -> Int {
    size.dividingFullWidth(part.multipliedFullWidth(by: n)).quotient
  }

  /// The rows of `n` that this rank owns.
  public func slice(of n: Int) -> Range<Int> { Self.slice(of: n, rank: rank, size: size) }

  /// The rows of `n` that each rank owns, in rank order.
  public func slices(of n: Int) -> [Range<Int>] { (0..<size).map { Self.slice(of: n, rank: $0, size: size) } }

  /// At least `bytes` of memory, until the next call.
  func staging(bytes: Int) -> Tensor<Double> {
    stage.withLock { held in
      if held.count * 8 < bytes { held = Tensor(Shape((bytes + 7) / 8)) }
      return held
    }
  }

  private static func processorName(_ caller: MPICaller) throws(MPIError) -> String {
    var buffer = [CChar](repeating: 0, count: Int(MPI_MAX_PROCESSOR_NAME) + 1)
    var length: Int32 = 0
    unsafe try caller.check("MPI_Get_processor_name", MPI_Get_processor_name(&buffer, &length))
    return String(decoding: buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Place and number of ranks among those that share this machine's memory.
  private static func node(of world: MPI_Comm?, _ caller: MPICaller) throws(MPIError) -> (rank: Int, size: Int) {
    var node: MPI_Comm?
    unsafe try caller.check(
      "MPI_Comm_split_type",
      MPI_Comm_split_type(
        world, Int32(MPI_COMM_TYPE_SHARED), Int32(caller.rank), kinship_mpi_info_null(), &node))
    var rank: Int32 = 0
    var size: Int32 = 0
    unsafe try caller.check("MPI_Comm_rank", MPI_Comm_rank(node, &rank))
    unsafe try caller.check("MPI_Comm_size", MPI_Comm_size(node, &size))
    unsafe try caller.check("MPI_Comm_free", MPI_Comm_free(&node))
    return (Int(rank), Int(size))
  }
}
