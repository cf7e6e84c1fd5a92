internal import CMPI
internal import Foundation
public import Tensor

/// One block of scalars that all ranks of a node see: MPI-3 shared memory.
///
/// The memory lives until the job ends. Giving it back is a collective of MPI, and a rank that ends on an error must
/// not wait for others in one; the system's file behind it has no name once all have it, so nothing is left over.
@safe
public final class SharedWindow<S: Scalar> {
  /// The whole block, aligned to 64 bytes, zero at first; at another address on each rank.
  public let values: Tensor<S>

  private let node: Communicator
  private let window: MPI_Win?

  /// Allocates `count` scalars on each node. All ranks of `node`, which share memory, must call it.
  ///
  /// - Parameter space: where the system keeps shared memory and how much of it is free; looked at before anything is
  ///   allocated, for a page that the file system cannot give kills the process that touches it.
  /// - Throws: `SharedMemoryError` where the space is too small; `MPIError`.
  public init(count: Int, over node: Communicator, space: SharedMemorySpace? = .current) throws {
    // MPI aligns to what it likes.
    let bytes = count * MemoryLayout<S>.stride + Arena<S>.alignment
    // The others of the node wait in the next collective, which the error ends.
    if node.rank == 0 { try space?.check(bytes, host: node.hostname) }
    self.node = node
    var window: MPI_Win?
    var base: UnsafeMutableRawPointer?
    var size = 0
    var unit: Int32 = 0
    node.ledger.enter("allocate a shared window")
    defer { node.ledger.leave() }
    unsafe try node.check(
      "MPI_Win_allocate_shared",
      MPI_Win_allocate_shared(
        MPI_Aint(node.rank == 0 ? bytes : 0), 1, kinship_mpi_info_null(), node.handle, &base, &window))
    unsafe try node.check(
      "MPI_Win_set_errhandler", MPI_Win_set_errhandler(window, kinship_mpi_errors_return()))
    unsafe try node.check("MPI_Win_shared_query", MPI_Win_shared_query(window, 0, &size, &unit, &base))
    // Loads and stores need an epoch for MPI_Win_sync to mean anything; this one lasts.
    unsafe try node.check("MPI_Win_lock_all", MPI_Win_lock_all(Int32(MPI_MODE_NOCHECK), window))
    guard let found = unsafe base, size >= bytes else {
      throw SharedMemoryError(
        host: node.hostname, reason: "MPI gave \(size) bytes of shared memory, \(bytes) were asked for")
    }
    let aligned = unsafe found.alignedUp(toMultipleOf: Arena<S>.alignment)
    values = unsafe Arena(adopting: aligned.bindMemory(to: S.self, capacity: count), count: count) {}.vector
    unsafe self.window = window
  }

  /// Makes what each rank has written seen by all of the node. All of them must call it, after they have written and
  /// before they read what others wrote.
  public func publish() throws(MPIError) {
    unsafe try node.check("MPI_Win_sync", MPI_Win_sync(window))
    try node.barrier()
    unsafe try node.check("MPI_Win_sync", MPI_Win_sync(window))
  }
}
