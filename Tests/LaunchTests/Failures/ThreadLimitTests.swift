import TestSupport
import Testing

@testable import Launch

/// Commands that the system lets have no threads.
@Suite struct ThreadLimitTests {
  /// Whether stacks may be larger than all addresses of a process, so that no thread has one.
  static let wideStacks = Requirement {
    let trial = try await MPIRun.execute(["sh", "-c", "ulimit -s 16777216"])
    return trial.status == 0 ? nil : "stacks of 16 GiB are refused: \(trial.errors); see ulimit -Hs"
  }

  /// Open MPI would wait for its own threads for ever.
  @Test(.requires(ThreadLimitTests.wideStacks)) func aCommandWithoutThreadsEndsAtOnce() async throws {
    let folder = try TemporaryFolder()
    let script = "ulimit -s 16777216; ulimit -v 8388608; exec \"$0\" \"$@\""
    let command = ["merge", folder.path("none"), "-o", folder.path("merged.safetensors")]
    let run = try await MPIRun.execute(["sh", "-c", script, MPIRun.path(of: "kinship")] + command)
    #expect(
      run.status == 70
        && run.errors.hasPrefix(
          "kinship: cannot start the threads of MPI: Resource temporarily unavailable; 0 of 4 were started; "),
      "\(run)")
    #expect(run.errors.contains("addresses (ulimit -v) 8589934592; raise the one that is reached"), "\(run)")
  }
}
