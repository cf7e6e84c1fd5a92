internal import CMPI
internal import Foundation
public import Tensor

/// A block of scalars in MPI-3 shared memory that all ranks of a node see. Freeing it would be a collective.
@safe
public final class SharedWindow<S: Scalar> {
  /// The whole block, zero at first, aligned to 64 bytes. Its address differs between ranks.
  public let values: Tensor<S>
  private let node: Communicator
  private let window: MPI_Win?

  /// Allocates `count` scalars on each node. A page that `space` cannot provide would kill the process, so it throws.
  public init(count: Int, over node: Communicator, space: SharedMemorySpace? = .current) throws {
    // MPI guarantees no alignment.
    let bytes = count * MemoryLayout<S>.stride + Arena<S>.alignment
    // The other ranks of the node wait in the next collective; the error ends it with the job.
    if node.rank == 0 { try space?.check(bytes, host: node.hostname) }
    self.node = node
    var window: MPI_Win?
    var base: UnsafeMutableRawPointer?
    var size = 0
    var unit: Int32 = 0
    node.ledger.enter("allocate a shared window")
    defer { node.ledger.leave() }
    do throws(MPIError) {
      unsafe try node.check(
        "MPI_Win_allocate_shared",
        MPI_Win_allocate_shared(
          MPI_Aint(node.rank == 0 ? bytes : 0), 1, kinship_mpi_info_null(), node.handle, &base, &window))
    } catch {
      throw SharedMemoryError(
        host: node.hostname,
        reason: "\(Libraries.mpi) makes no shared window (\(error.text)); it needs its component osc sm, which the"
          + " variable OMPI_MCA_osc may exclude")
    }
    unsafe try node.check("MPI_Win_set_errhandler", MPI_Win_set_errhandler(window, kinship_mpi_errors_return()))
    unsafe try node.check("MPI_Win_shared_query", MPI_Win_shared_query(window, 0, &size, &unit, &base))
    // MPI_Win_sync is defined only within an epoch of loads and stores; this one is never closed.
    unsafe try node.check("MPI_Win_lock_all", MPI_Win_lock_all(Int32(MPI_MODE_NOCHECK), window))
    guard let found = unsafe base, size >= bytes else {
      throw SharedMemoryError(
        host: node.hostname, reason: "MPI allocated \(size) bytes of shared memory, expected \(bytes)")
    }
    let aligned = unsafe found.alignedUp(toMultipleOf: Arena<S>.alignment)
    values = unsafe Arena(adopting: aligned.bindMemory(to: S.self, capacity: count), count: count) {}.vector
    unsafe self.window = window
  }

  /// Makes the writes of each rank visible to all ranks of the node, which must call it after writing, before reading.
  public func publish() throws(MPIError) {
    unsafe try node.check("MPI_Win_sync", MPI_Win_sync(window))
    try node.barrier()
    unsafe try node.check("MPI_Win_sync", MPI_Win_sync(window))
  }
}

/// The file system that holds shared memory, with its size and free space in bytes.
public struct SharedMemorySpace: Sendable {
  public let folder: String
  public let size: Int
  public let free: Int
  public init(folder: String, size: Int, free: Int) { (self.folder, self.size, self.free) = (folder, size, free) }

  /// The current state of the folder in which Open MPI creates its windows; nil if the system does not report it.
  public static var current: SharedMemorySpace? {
    let chosen = ProcessInfo.processInfo.environment["OMPI_MCA_osc_sm_backing_directory"]
    let folder = chosen.flatMap { $0.isEmpty ? nil : $0 } ?? "/dev/shm"
    var status = statvfs()
    guard unsafe statvfs(folder, &status) == 0 else { return nil }
    let block = Int(status.f_frsize)
    return SharedMemorySpace(folder: folder, size: Int(status.f_blocks) * block, free: Int(status.f_bavail) * block)
  }

  /// The bytes that MPI itself may take for messages between ranks in the meantime.
  private static let margin = 16 << 20

  /// Throws if `bytes` do not fit.
  func check(_ bytes: Int, host: String) throws(SharedMemoryError) {
    let needed = bytes + Self.margin
    guard free < needed else { return }
    // The current contents stay. Multiples of 256 MiB are easier to type.
    let wanted = (size - free + needed + 1 << 28 - 1) >> 28 * 256
    throw SharedMemoryError(
      host: host,
      reason: "\(folder) has \(free >> 20) MiB free, and \(needed >> 20 + 1) MiB are needed; start the container with "
        + "--shm-size=\(wanted)m, or as root type mount -o remount,size=\(wanted)m \(folder)")
  }
}

/// A node has too little shared memory for its ranks.
public struct SharedMemoryError: ExitCoded, CustomStringConvertible {
  public let host: String
  public let reason: String
  public var status: ExitStatus { .inputOutput }
  public var description: String { "no shared memory for the ranks of \(host): \(reason)" }
}
