internal import CMPI
internal import Synchronization
internal import Tensor

/// A group of ranks, which call the same collectives in the same order. MPI allows one at a time on a communicator, so
/// a thread that communicates by itself takes a `duplicate()`.
@safe
public final class Communicator: @unchecked Sendable {
  /// This process's rank in the group, 0 ..< size.
  public let rank: Int
  public let size: Int
  public let hostname: String
  /// This process's rank among the job's processes on its node.
  public let nodeRank: Int
  /// The number of the job's ranks on this node.
  public let nodeSize: Int
  package let ledger: CollectiveLedger
  let handle: MPI_Comm?
  let caller: MPICaller
  /// The largest number of elements in one message, since MPI counts in 32 bits. Longer messages are split.
  let limit: Int
  /// The rounds in which blocks go from each rank to each other one.
  let order: ExchangeRounds
  /// The buffer in which reductions lay out their pieces. It is kept so that steps allocate nothing.
  private let stage = Mutex(Tensor<Double>(Shape(0)))

  /// Creates the communicator of the whole job. MPI must have been started.
  convenience init() throws(MPIError) {
    let world = unsafe kinship_mpi_comm_world()
    var caller = MPICaller()
    caller.host = try Self.processorName(caller)
    unsafe try caller.check("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(world, kinship_mpi_errors_return()))
    caller.rank = unsafe try Self.place(in: world, caller).rank
    var node = unsafe try Self.sharingMemory(world, caller)
    let seat = unsafe try Self.place(in: node, caller)
    unsafe try caller.check("MPI_Comm_free", MPI_Comm_free(&node))
    unsafe try self.init(duplicating: world, name: "job", caller: caller, node: seat, limit: Int(Int32.max))
  }

  private convenience init(
    duplicating original: MPI_Comm?, name: String, caller: MPICaller, node: (rank: Int, size: Int), limit: Int
  ) throws(MPIError) {
    var copy: MPI_Comm?
    unsafe try caller.check("MPI_Comm_dup", MPI_Comm_dup(original, &copy))
    unsafe try self.init(adopting: copy, name: name, caller: caller, node: node, limit: limit)
  }

  private init(
    adopting handle: MPI_Comm?, name: String, caller: MPICaller, node: (rank: Int, size: Int), limit: Int
  ) throws(MPIError) {
    unsafe try caller.check("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(handle, kinship_mpi_errors_return()))
    let seat = unsafe try Communicator.place(in: handle, caller)
    (rank, size) = seat
    order = ExchangeRounds(rank: seat.rank, size: seat.size)
    unsafe self.handle = handle
    ledger = CollectiveLedger(communicator: name)
    (self.caller, self.limit, hostname) = (caller, limit, caller.host)
    (nodeRank, nodeSize) = node
  }

  /// Returns a communicator of the same ranks with messages of its own. Tests set a `limit`, to split messages.
  package func duplicate(limit: Int? = nil, name: String? = nil) throws(MPIError) -> Communicator {
    let limit = limit ?? self.limit
    precondition(limit > 0 && limit <= Int(Int32.max))
    ledger.enter("duplicate")
    defer { ledger.leave() }
    return unsafe try Communicator(
      duplicating: handle, name: name ?? "copy of \(ledger.communicator)", caller: caller, node: (nodeRank, nodeSize),
      limit: limit)
  }

  /// Returns the ranks that share this machine's memory, in the order of this communicator. All ranks must call it.
  public func node() throws(MPIError) -> Communicator {
    ledger.enter("node")
    defer { ledger.leave() }
    return unsafe try Communicator(
      adopting: Self.sharingMemory(handle, caller, rank: rank), name: "node of \(ledger.communicator)", caller: caller,
      node: (nodeRank, nodeSize), limit: limit)
  }

  /// Returns the ranks that pass the same group number, in the order of this communicator. All ranks must call it.
  public func split(group: Int) throws(MPIError) -> Communicator {
    precondition(group >= 0 && group <= Int(Int32.max))
    ledger.enter("split")
    defer { ledger.leave() }
    var part: MPI_Comm?
    unsafe try caller.check("MPI_Comm_split", MPI_Comm_split(handle, Int32(group), Int32(rank), &part))
    return unsafe try Communicator(
      adopting: part, name: "part of \(ledger.communicator)", caller: caller, node: (nodeRank, nodeSize), limit: limit)
  }

  /// Returns which of `n` rows rank `rank` of `size` owns: ⌊rank·n/size⌋ ..< ⌊(rank+1)·n/size⌋.
  public static func slice(of n: Int, rank: Int, size: Int) -> Range<Int> {
    precondition(n >= 0 && size > 0 && rank >= 0 && rank < size, "rank \(rank) of \(size), \(n) rows")
    // The products have 128 bits.
    func bound(_ part: Int) -> Int { size.dividingFullWidth(part.multipliedFullWidth(by: n)).quotient }
    return bound(rank)..<bound(rank + 1)
  }

  /// Returns which of `n` rows this rank owns.
  public func slice(of n: Int) -> Range<Int> { Self.slice(of: n, rank: rank, size: size) }
  /// Returns which of `n` rows each rank owns, in rank order.
  public func slices(of n: Int) -> [Range<Int>] { (0..<size).map { Self.slice(of: n, rank: $0, size: size) } }

  /// Returns a buffer of at least `bytes`, valid until the next call.
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

  /// Returns the ranks of `group` that share this machine's memory, in the order of `rank`.
  private static func sharingMemory(
    _ group: MPI_Comm?, _ caller: MPICaller, rank: Int? = nil
  ) throws(MPIError) -> MPI_Comm? {
    var node: MPI_Comm?
    let order = Int32(rank ?? caller.rank)
    unsafe try caller.check(
      "MPI_Comm_split_type",
      MPI_Comm_split_type(group, Int32(MPI_COMM_TYPE_SHARED), order, kinship_mpi_info_null(), &node))
    return unsafe node
  }

  private static func place(in group: MPI_Comm?, _ caller: MPICaller) throws(MPIError) -> (rank: Int, size: Int) {
    var (rank, size): (Int32, Int32) = (0, 0)
    unsafe try caller.check("MPI_Comm_rank", MPI_Comm_rank(group, &rank))
    unsafe try caller.check("MPI_Comm_size", MPI_Comm_size(group, &size))
    return (Int(rank), Int(size))
  }
}

/// A failed MPI call, with the code that it returned, MPI's own text, and the rank and host where it failed.
public struct MPIError: Error, ExitCoded, CustomStringConvertible {
  public let call: String
  public let code: Int32
  public let text: String
  /// The rank on which the call failed; -1 before ranks are known.
  public let rank: Int
  public let host: String
  /// The name and number of the collective that was running; empty outside of collectives.
  public let collective: String
  public var status: ExitStatus { .internalError }
  public var description: String {
    let place = collective.isEmpty ? "" : " in collective \(collective)"
    return "\(call) failed\(place) on rank \(rank), host \(host): code \(code), \(text)"
  }
}

struct MPICaller: Sendable {
  var rank = -1
  var host = "unknown"

  /// Throws an `MPIError` for any code but success. No other code does.
  func check(_ call: StaticString, _ code: Int32, in collective: @autoclosure () -> String = "") throws(MPIError) {
    guard code != MPI_SUCCESS else { return }
    throw MPIError(call: "\(call)", code: code, text: Self.text(code), rank: rank, host: host, collective: collective())
  }

  private static func text(_ code: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: Int(MPI_MAX_ERROR_STRING) + 1)
    var length: Int32 = 0
    guard unsafe MPI_Error_string(code, &buffer, &length) == MPI_SUCCESS else { return "no text for this code" }
    return String(decoding: buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
