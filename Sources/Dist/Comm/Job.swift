internal import CMPI
internal import Foundation
internal import Synchronization
internal import Tensor

/// This process as one rank of a job: starts MPI, runs the body, and ends the job.
public enum Job {
  private static let beginning = Mutex<ContinuousClock.Instant?>(nil)
  /// True once MPI can be called.
  private static let isStarted = Atomic(false)
  /// The most threads that Open MPI starts for itself, without which it would wait for ever: those of its events, of
  /// PMIx and of TCP, and one to spare.
  private static let threadsOfMPI = 4

  /// Notes the moment from which the start of the job is timed. `main` calls it first.
  public static func begin() { beginning.withLock { if $0 == nil { $0 = .now } } }

  /// The rank that a launcher gives this process; nil without one. MPI need not be started.
  package static var launchedRank: String? {
    let environment = ProcessInfo.processInfo.environment
    return ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"].lazy.compactMap { environment[$0] }.first
  }

  /// Starts MPI, runs `body` as one rank, and returns the maximum of the bodies' codes after all ranks have finished:
  /// launchers kill the others after a non-zero code. If `body` throws, the rank reports the error and ends the *whole
  /// job* with its `status`. Of an error that all ranks find rank 0 reports for all. `Deadline.start` limits the time
  /// until all ranks have met; the body starts the watchdog.
  public static func run(_ body: (Communicator) throws -> Int32) -> Int32 {
    begin()
    // Open MPI sets its own variable in a process that it did not launch.
    let rank = launchedRank
    let watch: StartWatch
    do {
      watch = StartWatch(deadline: try Deadline.start.seconds, since: beginning.withLock { $0 } ?? .now)
      try start()
    } catch {
      // All processes find out that MPI does not join them, and the launcher's first one says so.
      if !(error is LauncherError) || rank == "0" { report("kinship: \(error)") }
      return error.exitStatus.rawValue
    }
    var ranks: (Communicator, FailureExchange)?
    do {
      let communicator = try Communicator()
      let failures = try FailureExchange(over: communicator)
      ranks = (communicator, failures)
      watch.end()
      let code = try body(communicator)
      let finding = try communicator.collective("end of the job") { () throws(MPIError) in
        try failures.meet(code)
      }
      if let finding, finding.hasFailed { leave(finding.code, failures) }
      try communicator.caller.check("MPI_Finalize", MPI_Finalize())
      return finding?.code ?? code
    } catch {
      if let (communicator, failures) = ranks { end(after: error, communicator, failures) }
      report("kinship: \(error)")
      abort(error.exitStatus.rawValue)
    }
  }

  /// Reports an error of this rank and ends the job. If no rank is at work any more, each ends by itself: MPI's abort
  /// would print more about itself than the message has lines.
  private static func end(after error: any Error, _ ranks: Communicator, _ failures: FailureExchange) -> Never {
    let (status, words) = (error.exitStatus.rawValue, error.explanation)
    let isShared = (error as? any ExitCoded)?.isShared ?? false
    var finding: FailureExchange.Finding?
    if !(error is MPIError) { finding = try? failures.meet(status, failure: words, patience: isShared ? 10 : 1) }
    let isOne = isShared || finding?.areSame ?? false
    let who = isOne ? "" : "rank \(ranks.rank) of \(ranks.size) on \(ranks.hostname): "
    if !isOne || ranks.rank == 0 { report("kinship: \(who)\(words)") }
    guard let finding else { abort(status) }
    leave(finding.code, failures)
  }

  /// Ends this process, as all other ranks do, some of which have failed.
  private static func leave(_ code: Int32, _ failures: FailureExchange) -> Never {
    FolderLock.abandon()
    StageFolder.abandon()
    failures.wait()
    fflush(nil)
    _exit(code)
  }

  /// Ends all ranks, whatever they are doing. MPI itself may hang if another thread is inside it or the launcher does
  /// not answer; after ten seconds this process then exits alone, and its launcher treats the job as failed. It does so
  /// at once if MPI has not started, and without a launcher, for MPI would only print about itself.
  static func abort(_ code: Int32) -> Never {
    FolderLock.abandon()
    guard isStarted.load(ordering: .acquiring), launchedRank != nil else { _exit(code) }
    do {
      try SystemThread.start("abort") {
        Thread.sleep(forTimeInterval: 10)
        _exit(code)
      }
    } catch {
      // The signal ends this process too.
      signal(SIGALRM, SIG_DFL)
      alarm(10)
    }
    unsafe MPI_Abort(kinship_mpi_comm_world(), code)
    _exit(code)
  }

  private static func start() throws {
    var initialized: Int32 = 0
    unsafe try MPICaller().check("MPI_Initialized", MPI_Initialized(&initialized))
    precondition(initialized == 0, "a process is one rank of one job: Job.run is called once")
    // A waiting rank must yield its core to its own threads and to other ranks; the user's own setting wins.
    unsafe setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0)
    // Where ranks cannot read each other's memory, as in containers, a large message goes in fragments, three at a time
    // by default. With 64 at a time a step on busy cores was more than three times as fast (measured with two ranks).
    unsafe setenv("OMPI_MCA_pml_ob1_send_pipeline_depth", "64", 0)
    let environment = ProcessInfo.processInfo.environment
    if launchedRank == nil {
      // A process without a launcher has no other ranks. It needs neither Open MPI's daemon nor the search for fast
      // networks, which take three quarters of the start-up time (0.43 s and 0.08 s, measured).
      unsafe setenv("OMPI_MCA_ess_singleton_isolated", "1", 0)
      // All such processes of a user would share one folder, which one that ends takes away from one that starts: of
      // 480 starts, eight at a time, 11 failed.
      unsafe setenv("OMPI_MCA_orte_create_session_dirs", "0", 0)
      unsafe setenv("OMPI_MCA_pml", "ob1", 0)
      // Open MPI 5.0.7 would leave its room for messages, 16 MiB, in /dev/shm.
      if Libraries.openMPI >= 5 { unsafe setenv("OMPI_MCA_btl", "self", 0) }
    } else if Libraries.openMPI >= 5, let ranks = environment["OMPI_COMM_WORLD_SIZE"] {
      // Its ranks do not notice that their mpirun was killed.
      kinship_mpi_end_with_parent()
      // The ranks of one node need no network. Open MPI 5 looks for a route between them nevertheless, and each rank
      // complains if the kernel knows none; this way addresses are compared.
      if ranks == environment["OMPI_COMM_WORLD_LOCAL_SIZE"] { unsafe setenv("OMPI_MCA_reachable", "weighted", 0) }
    }
    try SystemThread.require(threadsOfMPI, for: "MPI")
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
    var size: Int32 = 0
    unsafe try MPICaller().check("MPI_Comm_size", MPI_Comm_size(kinship_mpi_comm_world(), &size))
    for name in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"] {
      guard let launched = environment[name].flatMap({ Int($0) }) else { continue }
      guard launched == Int(size) else { throw LauncherError(launched: launched, joined: Int(size), variable: name) }
      break
    }
    isStarted.store(true, ordering: .releasing)
  }

  /// Writes a line to standard error in one write, so that lines of several ranks do not mix. All messages pass here,
  /// where what a terminal would obey is made visible.
  package static func report(_ line: String) {
    let bytes = Array("\(line.printable)\n".utf8)
    _ = unsafe bytes.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }
}

/// The launcher is one of another MPI, such as MPICH: its ranks would all do the same work, each alone.
struct LauncherError: ExitCoded, CustomStringConvertible {
  let launched, joined: Int
  /// The variable in which the launcher gives its number of ranks.
  let variable: String
  var status: ExitStatus { .usage }
  var description: String {
    "the launcher says that it started \(launched) ranks (\(variable)), of which \(Libraries.mpi) joins \(joined);"
      + " start them with the mpirun of this Open MPI or with srun --mpi=pmix, and one alone without \(variable)"
  }
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

  /// The generation of Open MPI; from 5 on some parameters have other names. It is 4 if the library does not say it.
  public static let openMPI = mpi.firstMatch(of: /Open MPI v(\d+)/).flatMap { Int($0.1) } ?? 4
}
