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
  /// MPI is not finalized, since finalizing would wait for them. What all ranks throw together rank 0 says for all.
  public static func run(_ body: (Communicator) throws -> Int32) -> Int32 {
    do {
      try start()
    } catch {
      report("kinship: \(error)")
      return error.exitCode
    }
    var rank: Int?
    var who = "unknown rank"
    do {
      let communicator = try Communicator()
      rank = communicator.rank
      who = "rank \(communicator.rank) of \(communicator.size) on \(communicator.hostname)"
      var codes = [Double(try body(communicator))]
      try communicator.maximum(&codes)
      try communicator.caller.check("MPI_Finalize", MPI_Finalize())
      return Int32(codes[0])
    } catch {
      let known = error as? any ExitCoded
      if let known, let rank, known.isShared {
        // The others leave rank 0 the time to say what all know, and then to end the job.
        if rank == 0 { report("kinship: \(error)") } else { Thread.sleep(forTimeInterval: 5) }
      } else {
        report("kinship: \(who): \(error)")
      }
      abort(known?.exitCode ?? 70)
    }
  }

  /// Ends all ranks, whatever they are doing. MPI may hang in that, too, where another thread is inside it or the
  /// launcher does not answer: then this process ends alone, which its launcher takes for a failed job.
  static func abort(_ code: Int32) -> Never {
    Thread.detachNewThread {
      Thread.sleep(forTimeInterval: 10)
      _exit(code)
    }
    unsafe MPI_Abort(kinship_mpi_comm_world(), code)
    _exit(code)
  }

  /// Whether a launcher, mpirun or srun, has started this process: each tells a rank its number.
  private static var isLaunched: Bool {
    let environment = ProcessInfo.processInfo.environment
    return ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"].contains { environment[$0] != nil }
  }

  /// MPI with leave for every thread to call it.
  private static func start() throws(MPIError) {
    var initialized: Int32 = 0
    unsafe try MPICaller().check("MPI_Initialized", MPI_Initialized(&initialized))
    precondition(initialized == 0, "a process is one rank of one job: Job.run is called once")
    // A waiting rank must leave its core to its own threads and to its neighbours; the user's own setting wins.
    unsafe setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0)
    // Where the system forbids ranks to read each other's memory, as containers do, a large message crosses shared
    // memory in fragments, by default three at a time. Ranks whose cores are busy have to take turns for each three:
    // with 64 a step on busy cores was more than three times as quick (measured on two ranks).
    unsafe setenv("OMPI_MCA_pml_ob1_send_pipeline_depth", "64", 0)
    if !isLaunched {
      // A process that nobody launched has no other ranks: it needs neither Open MPI's daemon nor a look for fast
      // networks, which take three quarters of the start (0.43 s and 0.08 s, measured).
      unsafe setenv("OMPI_MCA_ess_singleton_isolated", "1", 0)
      unsafe setenv("OMPI_MCA_pml", "ob1", 0)
    }
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
  static func report(_ line: String) { FileHandle.standardError.write(Data("\(line)\n".utf8)) }
}
