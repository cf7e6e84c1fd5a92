import Foundation
import TestSupport
import Testing

/// Signals at any moment, from the first line of the program on, and ranks that never meet.
@Suite struct SignalTests {
  /// A library that is loaded before MPI and raises the signals in RAISED when a rank starts MPI; only on the rank
  /// RAISED_ON if that is set.
  private static let library = Task { () -> String in
    let folder = try TemporaryFolder.untilExit()
    let source = try folder.write(
      "raise.c",
      """
      #define _GNU_SOURCE
      #include <dlfcn.h>
      #include <signal.h>
      #include <stdlib.h>
      int MPI_Init_thread(int *count, char ***arguments, int wanted, int *provided) {
        int (*start)(int *, char ***, int, int *) = dlsym(RTLD_NEXT, "MPI_Init_thread");
        const char *only = getenv("RAISED_ON"), *rank = getenv("OMPI_COMM_WORLD_RANK");
        char *signals = getenv("RAISED");
        if (!only || (rank && *rank == *only))
          while (*signals) raise(strtol(signals, &signals, 10));
        return start(count, arguments, wanted, provided);
      }
      """.utf8)
    let library = folder.path("raise.so")
    let compiler = try await MPIRun.execute(["clang", "-shared", "-fPIC", "-o", library, source, "-ldl"])
    try #require(compiler.status == 0, "\(compiler)")
    return library
  }

  private static func raising(_ signals: Int32..., on rank: Int? = nil) async throws -> [String: String] {
    let raised = ["LD_PRELOAD": try await library.value, "RAISED": signals.map(String.init).joined(separator: " ")]
    return rank.map { raised.merging(["RAISED_ON": "\($0)"]) { $1 } } ?? raised
  }

  /// The signal waits for the program, which takes it first of all and keeps it while it restarts itself.
  @Test(arguments: ["USR1", "TERM", "INT", "HUP"]) func aSignalAtTheStart(signal: String) async throws {
    let scene = try await TrainScene()
    let run = try await MPIRun.execute(
      [
        "env", "--default-signal=\(signal)", "--block-signal=\(signal)", "bash", "-c",
        "kill -\(signal) $$; exec \"$@\"", "bash", try MPIRun.path(of: "kinship"), "train", scene.runFile, "--set",
        "steps=1_000_000",
      ],
      // OpenBLAS takes an empty name for an unknown one, and the program restarts itself without it.
      ["OPENBLAS_CORETYPE": ""])
    #expect(run.status == 75, "\(run)")
    #expect(run.output.contains("stopped by SIG\(signal) before the first step; start again with --resume"), "\(run)")
    #expect(!FileManager.default.fileExists(atPath: scene.folder.path("runs")))
  }

  /// Before the first step there is nothing to save, and nothing is left behind that would prevent a new start.
  @Test func aSignalWhileMPIStarts() async throws {
    let scene = try await TrainScene()
    let values = ["name=early"] + FailureTests.endless
    let run = try await scene.run(values, ranks: 2, environment: Self.raising(SIGUSR1))
    #expect(run.status == 75, "\(run)")
    #expect(run.output.contains("stopped by SIGUSR1 before the first step; start again with --resume auto"), "\(run)")
    try await scene.expectTheSameLosses("early", FailureTests.constant, ranks: 2)
  }

  /// A second Ctrl-C is meant, nohup's choice stays, and commands that save nothing end as the system ends them.
  @Test func signalsThatAreNotKept() async throws {
    let scene = try await TrainScene()
    let twice = try await scene.run(ranks: nil, environment: Self.raising(SIGINT, SIGINT))
    #expect(twice.status == 130 && twice.errors.isEmpty, "\(twice)")
    let program = try MPIRun.path(of: "kinship")
    let ignoring = try await MPIRun.execute(
      ["env", "--ignore-signal=HUP", program, "train", scene.runFile, "--set", "steps=2"], Self.raising(SIGHUP))
    #expect(ignoring.status == 0, "\(ignoring)")
    let other = try await MPIRun.kinship(["doctor"], ranks: nil, environment: Self.raising(SIGTERM))
    #expect(other.status == 143 && other.output.isEmpty, "\(other)")
  }

  /// The launch script turns what would kill the ranks into the signal on which they save, at any moment: what comes
  /// before mpirun can pass it on is not lost.
  @Test func launchersThatAreInterrupted() async throws {
    let scene = try await TrainScene()
    let early = "until grep -qsE \"[(](mpirun|prterun)[)] . $job \" /proc/[0-9]*/stat || ! kill -0 $job; do :; done"
    for (signal, moment) in [("INT", "steps 3"), ("HUP", early)] {
      let run = try await scene.disturb(
        signal, FailureTests.endless, ranks: 2, by: TrainScene.launcher, "\(moment)\nkill -\(signal) $job")
      #expect(run.status == 75 && run.leftBehind.isEmpty, "\(run)")
      #expect(signal == "HUP" || run.output.contains("stopped by SIGUSR1 after step"), "\(run)")
    }
  }

  /// The others cannot ask a rank that is stopped before MPI has started: they end the job after the deadline.
  @Test func aRankThatIsStoppedBeforeMPIStarts() async throws {
    let environment = try await Self.raising(SIGSTOP, on: 1).merging(["KINSHIP_START_DEADLINE": "1"]) { $1 }
    let run = try await MPIRun.kinship(["doctor"], ranks: 2, environment: environment)
    #expect(run.status == 77, "\(run)")
    #expect(run.errors.contains(/kinship: rank 0 on .*: the ranks have not met within 1 s: check the rank/), "\(run)")
    #expect(!run.errors.contains("rank 1 on") && run.leftBehind.isEmpty, "\(run)")
  }

  /// Commands without a run file have a watchdog, too. Here the first rank waits for input that never comes.
  @Test func aRankThatHangsInACommandWithoutSteps() async throws {
    let folder = try TemporaryFolder()
    let run = try await MPIRun.execute(
      [
        "bash", "-c", "exec \"$@\" 0<>\"$INPUT\"", "bash", "mpirun", "--oversubscribe", "-n", "2",
        try MPIRun.path(of: "kinship"), "embed", "--checkpoint", "none", "--captions", "-", "--output",
        folder.path("e.h5"),
      ], ["INPUT": folder.pipe("input"), "KINSHIP_WATCHDOG_DEADLINE": "0.5"], ranks: 2)
    #expect(run.status == 77 && run.leftBehind.isEmpty, "\(run)")
    #expect(run.errors.ranges(of: /kinship: rank [01] of 2 on .*: no progress for 2 s, working;/).count == 2, "\(run)")
    #expect(run.errors.contains("KINSHIP_WATCHDOG_DEADLINE for commands without one"), "\(run)")
  }

  @Test(arguments: ["KINSHIP_START_DEADLINE", "KINSHIP_WATCHDOG_DEADLINE"])
  func aDeadlineThatIsNoTime(variable: String) async throws {
    let run = try await MPIRun.kinship(["doctor"], ranks: nil, environment: [variable: "soon"])
    #expect(run.status == 64, "\(run)")
    #expect(run.errors == "kinship: \(variable) is “soon”; expected 0 (no limit) to 1e9 seconds\n", "\(run)")
  }
}
