internal import CMPI
internal import Foundation

/// The last exchange of a job, in which the ranks learn whether others have failed, and in which way. A rank that fails
/// cannot ask the others in their collectives, because it does not know where they are; so all do it on a communicator
/// of its own, and a rank that has failed waits for the others only for a while.
@safe
struct FailureExchange {
  /// The end of all ranks: their highest code, whether any has failed, and whether all have failed with the same words.
  struct Finding {
    let code: Int32
    let hasFailed, areSame: Bool
  }

  private let ranks: Communicator
  private let handle: MPI_Comm?

  /// Every rank must call it.
  init(over ranks: Communicator) throws(MPIError) {
    var copy: MPI_Comm?
    unsafe try ranks.caller.check("MPI_Comm_dup", MPI_Comm_dup(ranks.handle, &copy))
    self.ranks = ranks
    unsafe handle = copy
  }

  /// Returns the end of all ranks; nil if not all have come to theirs within `patience` seconds. A rank that has failed
  /// gives the words of its error. It polls and sleeps in between, which leaves the core to other ranks.
  func meet(_ code: Int32, failure: String? = nil, patience: Double = .infinity) throws(MPIError) -> Finding? {
    // The maxima of a number and of its negative are this rank's own only if all ranks have the same number.
    let digest = SHA256.hash((failure ?? "").utf8).bytes.flatMap { [Int64($0), -Int64($0)] }
    let own = [Int64(code), failure == nil ? 0 : 1] + digest
    // It is never freed: as long as a rank is missing, MPI may write to it.
    let most = UnsafeMutableBufferPointer<Int64>.allocate(capacity: own.count)
    _ = unsafe most.initialize(fromContentsOf: own)
    var request: MPI_Request?
    unsafe try ranks.check(
      "MPI_Iallreduce",
      MPI_Iallreduce(
        kinship_mpi_in_place(), most.baseAddress, Int32(own.count), kinship_mpi_int64(), kinship_mpi_max(), handle,
        &request))
    let begin = ContinuousClock.now
    var isOver: Int32 = 0
    while true {
      unsafe try ranks.check("MPI_Test", MPI_Test(&request, &isOver, nil))
      if isOver != 0 { break }
      if (ContinuousClock.now - begin) / .seconds(1) >= patience { return nil }
      Thread.sleep(forTimeInterval: 0.001)
    }
    let all = unsafe Array(most)
    return Finding(code: Int32(all[0]), hasFailed: all[1] > 0, areSame: all[2...].elementsEqual(digest))
  }

  /// Waits until all ranks, all of which have met, have reported their errors.
  func wait() { _ = unsafe MPI_Barrier(handle) }
}
