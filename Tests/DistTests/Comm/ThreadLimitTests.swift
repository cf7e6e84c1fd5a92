import TestSupport
import Testing

/// A system that refuses threads makes nothing wait for them.
extension MPITests {
  @Suite struct ThreadLimitTests {
    let folder = try! TemporaryFolder()

    /// The limit on addresses binds root too, as that on processes does not. All that hung is in one process.
    @Test func nothingWaitsForThreadsThatAreRefused() async throws {
      let run = try await MPIRun.probe("threads", [folder.path("")], ranks: nil)
      #expect(run.status == 0, "\(run)")
      let refusal = "Resource temporarily unavailable; 0 of"
      for words in [
        "loader: cannot start the thread loader 0: \(refusal) 3 were started; the limit on the user's processes and",
        "compute: 1 of 4, the same product: true\n", "communication: cannot start the thread work: \(refusal) 1 were",
        ": nothing ends this rank if it hangs: cannot start the thread watchdog: \(refusal)", "watched: false\n",
        "lock: cannot start the thread folder lock: \(refusal)", "left in the folder: []\n",
      ] {
        #expect(run.output.contains(words), "“\(words)” is not in \(run)")
      }
      #expect(!run.output.contains("work was done"), "\(run)")
    }

    @Test func aRefusedThreadHasAnExitCode() async throws {
      let run = try await MPIRun.probe("threads", [folder.path(""), "throw"], ranks: nil)
      #expect(run.status == 70 && run.errors.contains("cannot start the thread loader 0: "), "\(run)")
      #expect(run.errors.contains("raise the one that is reached, or that of the control group (pids.max)"), "\(run)")
    }
  }
}
