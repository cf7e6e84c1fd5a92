internal import CMPI
internal import Foundation

/// This process as one rank of a job: starts MPI, runs the body, and ends the job.
public enum Job {
  /// Starts MPI, runs `body` as one rank, and returns the maximum of the bodies' codes after all ranks have finished:
  /// launchers kill the others after a non-zero code. If `body` throws, the rank reports the error and ends the *whole
  /// job* with its `status`. Of an error that all ranks throw (`ExitCoded.isShared`) rank 0 reports for all.
  public static func run(_ body: (Communicator) throws -> Int32) -> Int32 {
    do { try start() } catch {
      report("kinship: \(error)")
      return error.status.rawValue
    }
    var rank: Int?
    var who = "unknown rank"
    do {
      let communicator = try Communicator()
      rank = communicator.rank
      who = "rank \(communicator.rank) of \(communicator.size) on \(communicator.hostname)"
      let code = try communicator.allReduce(Int(try body(communicator)), .maximum)
      try communicator.caller.check("MPI_Finalize", MPI_Finalize())
      return Int32(code)
    } catch {
      let known = error as? any ExitCoded
      if let known, let rank, known.isShared {
        // The other ranks give rank 0 time to report the error and to end the job.
        if rank == 0 { report("kinship: \(error)") } else { Thread.sleep(forTimeInterval: 5) }
      } else {
        report("kinship: \(who): \(error)")
      }
      abort((known?.status ?? .internalError).rawValue)
    }
  }

  /// Ends all ranks, whatever they are doing. MPI itself may hang if another thread is inside it or the launcher does
  /// not answer; after ten seconds this process then exits alone, and its launcher treats the job as failed.
  static func abort(_ code: Int32) -> Never {
    Thread.detachNewThread {
      Thread.sleep(forTimeInterval: 10)
      _exit(code)
    }
    unsafe MPI_Abort(kinship_mpi_comm_world(), code)
    _exit(code)
  }

  private static func start() throws(MPIError) {
    var initialized: Int32 = 0
    unsafe try MPICaller().check("MPI_Initialized", MPI_Initialized(&initialized))
    precondition(initialized == 0, "a process is one rank of one job: Job.run is called once")
    // A waiting rank must yield its core to its own threads and to other ranks; the user's own setting wins.
    unsafe setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0)
    // Where ranks cannot read each other's memory, as in containers, a large message goes in fragments, three at a time
    // by default. With 64 at a time a step on busy cores was more than three times as fast (measured with two ranks).
    unsafe setenv("OMPI_MCA_pml_ob1_send_pipeline_depth", "64", 0)
    let environment = ProcessInfo.processInfo.environment
    if !["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"].contains(where: { environment[$0] != nil }) {
      // A process without a launcher has no other ranks. It needs neither Open MPI's daemon nor the search for fast
      // networks, which take three quarters of the start-up time (0.43 s and 0.08 s, measured).
      unsafe setenv("OMPI_MCA_ess_singleton_isolated", "1", 0)
      unsafe setenv("OMPI_MCA_pml", "ob1", 0)
    }
    let wanted = Int32(MPI_THREAD_MULTIPLE)
    var provided: Int32 = 0
    unsafe try MPICaller().check("MPI_Init_thread", MPI_Init_thread(nil, nil, wanted, &provided))
    guard provided >= wanted else {
      throw MPIError(
        call: "MPI_Init_thread", code: provided,
        text: "this MPI provides thread level \(provided), but \(wanted) (MPI_THREAD_MULTIPLE) is needed;"
          + " use an Open MPI built with thread support",
        rank: -1, host: ProcessInfo.processInfo.hostName, collective: "")
    }
  }

  /// Writes a line to standard error in one write, so that lines of several ranks do not mix.
  static func report(_ line: String) { FileHandle.standardError.write(Data("\(line)\n".utf8)) }
}

/// The versions of the installed libraries that this process uses.
public enum Libraries {
  /// The MPI library's name and version, such as `Open MPI v4.1.4`. It can be read before MPI is started.
  public static var mpi: String {
    var buffer = [CChar](repeating: 0, count: Int(MPI_MAX_LIBRARY_VERSION_STRING) + 1)
    var length: Int32 = 0
    guard unsafe MPI_Get_library_version(&buffer, &length) == MPI_SUCCESS else { return "unknown" }
    let text = String(decoding: buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    // The text is "Open MPI v4.1.4, package: …, ident: …"; build details follow the first comma.
    return String(text.prefix { $0 != "," && $0 != "\0" && $0 != "\n" })
  }
}
