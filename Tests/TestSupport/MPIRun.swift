import Foundation
import Subprocess

/// A program of this package that a test runs, alone or as ranks under `mpirun`.
public struct MPIRun: Sendable, CustomStringConvertible {
  /// The exit code; 128 + n when signal n ended the process.
  public let status: Int
  public let output: String
  public let errors: String
  /// How long it took, for whoever reads a failure; no test asserts it.
  public let seconds: Double
  /// What had not ended a while after the command, and what it was doing.
  public internal(set) var leftBehind: [String] = []

  /// The lines of standard output, in alphabetic order, since ranks write in no fixed order.
  public var lines: [String] { output.split(separator: "\n").map(String.init).sorted() }

  public var description: String {
    "status \(status) after \(seconds) s\n--- output\n\(output)\n--- errors\n\(errors)"
  }

  /// After this long a command hangs: the slowest that tests have takes a tenth of it on the slowest machine seen. No
  /// limit says that something is slow.
  public static let hang = Duration.seconds(1200)

  /// For how long processes may outlive the command that started them: until a launcher that was killed has been
  /// missed.
  private static let grace = Duration.seconds(60)

  /// Runs `Probes NAME ARGUMENT…`.
  public static func probe(
    _ name: String, _ arguments: [String] = [], ranks: Int?, environment: [String: String] = [:],
    limit: Duration = MPIRun.hang
  ) async throws -> MPIRun {
    try await execute(
      command("Probes", [name] + arguments, ranks: ranks), environment, ranks: ranks ?? 1, limit: limit)
  }

  /// Runs the program `kinship`; the variables `without` are taken out of its environment.
  public static func kinship(
    _ arguments: [String], ranks: Int?, environment: [String: String] = [:], without: [String] = []
  ) async throws -> MPIRun {
    try await execute(command("kinship", arguments, ranks: ranks), environment, without: without, ranks: ranks ?? 1)
  }

  /// A program found beside the test bundle; with `ranks` nil it is started directly, not under `mpirun`.
  private static func command(_ program: String, _ arguments: [String], ranks: Int?) throws -> [String] {
    let path = try path(of: program)
    return ranks.map { ["mpirun", "--oversubscribe", "-n", "\($0)", path] + arguments } ?? ["env", path] + arguments
  }

  /// Runs any command in the environment that tests give to programs, once there is a core for each of its ranks.
  ///
  /// Whatever has not ended within `limit` is ended, launcher and ranks, and the error says what they were doing. The
  /// clock starts when it is the command's turn.
  ///
  /// - Parameter ranks: how many ranks the command starts at a time, directly or through a script; 1 for a program that
  ///   is no rank.
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
    // Not a child task: a test that is cancelled must be rid of its processes too.
    let watch = Task { () -> [String]? in
      while true {
        do { try await Task.sleep(for: limit) } catch { return nil }
        // What had not even begun by then is looked at again.
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

  /// Runs a command to its end.
  private static func wait(
    for command: [String], _ environment: [String: String], without: [String]
  ) async throws -> MPIRun {
    // mpirun refuses root and containers often forbid its single-copy transfers: tests must run there too.
    // One BLAS thread a rank, as the ranks outnumber the cores.
    let settings = [
      "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
      "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OPENBLAS_NUM_THREADS": "1",
      // Looking for fast networks, of which these ranks use none, takes half of the time that a small job takes.
      "OMPI_MCA_pml": "ob1",
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

  /// The path of a built program: tests and programs lie in one folder.
  public static func path(of program: String) throws -> String {
    let bundle = Bundle.main.executableURL ?? URL(filePath: CommandLine.arguments[0])
    let path = bundle.deletingLastPathComponent().appending(path: program).path
    guard FileManager.default.isExecutableFile(atPath: path) else { throw NotBuilt(path: path) }
    return path
  }

  public struct Overdue: Error {
    public let command: [String]
    public let limit: Duration
    /// What had not ended.
    public let processes: [String]
  }

  public struct NotBuilt: Error {
    public let path: String
  }
}
