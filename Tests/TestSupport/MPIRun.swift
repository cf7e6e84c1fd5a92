import Foundation
import Subprocess

/// A program that a test has run, alone or as ranks under `mpirun`.
public struct MPIRun: Sendable, CustomStringConvertible {
  /// The exit code, or 128 + n if signal n ended the process.
  public let status: Int
  public let output: String
  public let errors: String
  /// The duration in seconds, for the description of failures. No test makes assertions about it.
  public let seconds: Double
  /// The processes that had not ended some time after the command, and their states.
  public internal(set) var leftBehind: [String] = []

  /// The lines of standard output in alphabetical order, because ranks write in no fixed order.
  public var lines: [String] { output.split(separator: "\n").map(String.init).sorted() }

  public var description: String {
    "status \(status) after \(seconds) s\n--- output\n\(output)\n--- errors\n\(errors)"
  }

  /// The time after which a command counts as hanging. The slowest command takes a tenth of it on the slowest machine
  /// known. No limit is meant to reveal that something is slow.
  public static let hang = Duration.seconds(1200)

  /// The time for which processes may outlive their command, so that they can notice that their launcher was killed.
  private static let grace = Duration.seconds(60)

  /// Runs `Probes NAME ARGUMENT…`.
  public static func probe(
    _ name: String, _ arguments: [String] = [], ranks: Int?, environment: [String: String] = [:],
    limit: Duration = MPIRun.hang
  ) async throws -> MPIRun {
    try await execute(
      command("Probes", [name] + arguments, ranks: ranks), environment, ranks: ranks ?? 1, limit: limit)
  }

  /// Runs the program `kinship`, without the environment variables in `without`.
  public static func kinship(
    _ arguments: [String], ranks: Int?, environment: [String: String] = [:], without: [String] = []
  ) async throws -> MPIRun {
    try await execute(command("kinship", arguments, ranks: ranks), environment, without: without, ranks: ranks ?? 1)
  }

  /// Returns the command that runs a program beside the test bundle under `mpirun`, or directly if `ranks` is nil.
  private static func command(_ program: String, _ arguments: [String], ranks: Int?) throws -> [String] {
    let path = try path(of: program)
    return ranks.map { ["mpirun", "--oversubscribe", "-n", "\($0)", path] + arguments } ?? ["env", path] + arguments
  }

  /// Returns the command that runs another command on each rank. `mpirun A : B` would do that too, but crashes in
  /// Debian 13 (Open MPI 5.0.7).
  public static func ranks(_ commands: [[String]]) -> [String] {
    let cases = commands.enumerated().map { rank, words in
      let quoted = words.map { "'\($0.replacing("'", with: #"'\''"#))'" }
      return "\(rank)) exec \(quoted.joined(separator: " ")) ;;"
    }
    return [
      "mpirun", "--oversubscribe", "-n", "\(commands.count)", "sh", "-c",
      "case $OMPI_COMM_WORLD_RANK in \(cases.joined(separator: " ")) esac",
    ]
  }

  /// Runs a command in the environment of tests, as soon as there is a core for each of its ranks.
  ///
  /// If it has not ended within `limit`, which does not include the time that it waits for cores, all of its processes
  /// are ended.
  ///
  /// - Parameter ranks: the number of ranks that the command starts at a time, directly or through a script; 1 for a
  ///   program that is not a rank.
  /// - Throws: `Overdue` with the states of the processes if the limit was exceeded.
  public static func execute(
    _ command: [String], _ environment: [String: String] = [:], without: [String] = [], ranks: Int = 1,
    limit: Duration = MPIRun.hang
  ) async throws -> MPIRun {
    await Cores.shared.take(for: ranks)
    let run: Result<MPIRun, any Error>
    do {
      run = .success(try await start(command, environment, without: without, limit: limit))
    } catch {
      run = .failure(error)
    }
    await Cores.shared.give(back: ranks)
    return try run.get()
  }

  private static func start(
    _ command: [String], _ environment: [String: String], without: [String], limit: Duration
  ) async throws -> MPIRun {
    let started = Stragglers(mark: UUID().uuidString)
    let marked = environment.merging([Stragglers.variable: started.mark]) { $1 }
    // This is not a child task, because the processes of a cancelled test must be ended too.
    let watch = Task { () -> [String]? in
      while true {
        do { try await Task.sleep(for: limit) } catch { return nil }
        // If no process had started yet, look again later.
        let processes = await started.end()
        if !processes.isEmpty { return processes }
      }
    }
    var run: MPIRun
    do {
      run = try await wait(for: command, marked, without: without)
    } catch {
      _ = await started.end()
      watch.cancel()
      throw error
    }
    watch.cancel()
    run.leftBehind = await started.remaining(after: grace)
    if let processes = await watch.value { throw Overdue(command: command, limit: limit, processes: processes) }
    return run
  }

  /// Runs a command and waits for its end.
  private static func wait(
    for command: [String], _ environment: [String: String], without: [String]
  ) async throws -> MPIRun {
    // mpirun refuses to run as root, and containers often forbid its single-copy transfers; tests must run there too.
    // Each rank gets one BLAS thread, because the ranks may outnumber the cores.
    let settings = [
      "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
      "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMPI_MCA_smsc": "^cma", "OPENBLAS_NUM_THREADS": "1",
      // The search for fast networks, which these ranks do not use, takes half of the time of a small job.
      "OMPI_MCA_pml": "ob1",
      // When a rank has failed, mpirun gives the others a second before it kills them, and lets it pass even if all
      // have ended.
      "OMPI_MCA_odls_base_sigkill_timeout": "0",
      "SWIFT_BACKTRACE": "enable=no",
    ].merging(environment) { $1 }
    var inherited = Environment.inherit
    for (name, value) in settings { inherited = inherited.updating([.init(stringLiteral: name): value]) }
    for name in without { inherited = inherited.updating([.init(stringLiteral: name): nil]) }
    var options = PlatformOptions()
    options.teardownSequence = [.gracefulShutDown(allowedDurationToNextStep: .seconds(5))]
    let start = ContinuousClock.now
    let result = try await Subprocess.run(
      .name(command[0]), arguments: Arguments(Array(command.dropFirst())), environment: inherited,
      platformOptions: options,
      output: .string(limit: 1 << 22), error: .string(limit: 1 << 22))
    let elapsed = (ContinuousClock.now - start).components
    let status =
      switch result.terminationStatus {
      case .exited(let code): Int(code)
      case .signaled(let signal): 128 + Int(signal)
      }
    return MPIRun(
      status: status, output: result.standardOutput, errors: result.standardError,
      seconds: Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18)
  }

  /// Returns the path of a built program, which is in the same folder as the tests.
  public static func path(of program: String) throws -> String {
    let bundle = Bundle.main.executableURL ?? URL(filePath: CommandLine.arguments[0])
    let path = bundle.deletingLastPathComponent().appending(path: program).path
    guard FileManager.default.isExecutableFile(atPath: path) else { throw NotBuilt(path: path) }
    return path
  }

  public struct Overdue: Error {
    public let command: [String]
    public let limit: Duration
    /// The processes that had not ended, and their states.
    public let processes: [String]
  }

  public struct NotBuilt: Error {
    public let path: String
  }
}
