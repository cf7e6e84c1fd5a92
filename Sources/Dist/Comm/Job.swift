internal import CMPI
internal import Foundation

/// The life of this process as one rank: start, body, end.
public enum Job {
  /// Starts MPI, runs `body` as one rank, and returns the code to exit with.
  ///
  /// Works under `mpirun` or `srun`, and alone as a job of one rank. The codes that the ranks' bodies return are
  /// reduced to their maximum, which every rank returns, and only after all have met: a launcher kills the others
  /// soon after the first process that exits non-zero.
  ///
  /// When `body` throws, the rank says so on standard error and ends the *whole job* at once, with the error's
  /// `exitCode` (70 if it has none): the other ranks may stand in a collective that this one will never enter, and
  /// MPI is not finalized, since finalizing would wait for them.
  public static func run(_ body: (Communicator) throws -> Int32) -> Int32 {
    do {
      try start()
    } catch {
      report("kinship: \(error)")
      return error.exitCode
    }
    var who = "unknown rank"
    do {
      let communicator = try Communicator()
      who = "rank \(communicator.rank) of \(communicator.size) on \(communicator.hostname)"
      var codes = [Double(try body(communicator))]
      try communicator.maximum(&codes)
      try communicator.caller.check("MPI_Finalize", MPI_Finalize())
      return Int32(codes[0])
    } catch {
      report("kinship: \(who): \(error)")
      let code = (error as? any ExitCoded)?.exitCode ?? 70
      unsafe MPI_Abort(kinship_mpi_comm_world(), code)
      _exit(code)
    }
  }

  /// MPI with leave for every thread to call it.
  private static func start() throws(MPIError) {
    var initialized: Int32 = 0
    unsafe try MPICaller().check("MPI_Initialized", MPI_Initialized(&initialized))
    precondition(initialized == 0, "a process is one rank of one job: Job.run is called once")
    // A waiting rank must leave its core to its own threads and to its neighbours; the user's own setting wins.
    unsafe setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0)
    let wanted = Int32(MPI_THREAD_MULTIPLE)
    var provided: Int32 = 0
    unsafe try MPICaller().check("MPI_Init_thread", MPI_Init_thread(nil, nil, wanted, &provided))
    guard provided >= wanted else {
      throw MPIError(
        call: "MPI_Init_thread", code: provided,
        text: "this MPI grants thread level \(provided), \(wanted) (MPI_THREAD_MULTIPLE) is needed;"
          + " use an Open MPI built with thread support",
        rank: -1, host: ProcessInfo.processInfo.hostName, collective: "")
    }
  }

  /// One write, so that lines of several ranks do not mix.
  private static func report(_ line: String) { FileHandle.standardError.write(Data("\(line)\n".utf8)) }
}
