import TestSupport
import Testing

@testable import Dist

/// Nothing waits for ever.
extension MPITests {
  @Suite(.serialized, .timeLimit(.minutes(1)))
  struct WatchdogTests {
    /// A silent link or a suspended node looks like this: a rank that neither ends nor speaks.
    @Test(arguments: [2, 3])
    func stoppedRankEndsTheJob(ranks: Int) async throws {
      let run = try await MPIRun.probe("stopped", ["1"], ranks: ranks)
      #expect(run.status == 77, "\(run)")
      for rank in 0..<ranks - 1 {
        #expect(run.errors.contains("kinship: rank \(rank) of \(ranks) on "), "\(run)")
      }
      #expect(!run.errors.contains("kinship: rank \(ranks - 1) of"), "\(run)")
      #expect(
        run.errors.contains(
          ": no progress for 1 s, training after step 5; last collectives job: barrier #2 (inside), gradients: barrier #1"
        ), "\(run)")
      #expect(run.errors.contains("the watchdog ends the job"), "\(run)")
      #expect(run.seconds < 10)
    }

    /// The one that hangs says so itself, and the numbers tell it from those that wait.
    @Test func rankThatHangsOutsideOfMPI() async throws {
      let run = try await MPIRun.probe("idle", ["1", "30"], ranks: 2)
      #expect(run.status == 77, "\(run)")
      #expect(
        run.errors.contains("kinship: rank 0 of 2 on ") && run.errors.contains("job: barrier #1 (inside)"), "\(run)")
      #expect(run.errors.contains("kinship: rank 1 of 2 on ") && run.errors.contains("job: none #0"), "\(run)")
      #expect(run.seconds < 10)
    }

    @Test func whatComesBackGoesOn() async throws {
      let run = try await MPIRun.probe("idle", ["1", "1.6"], ranks: 2)
      #expect(run.status == 0, "\(run)")
      #expect(run.lines == ["0 is done", "1 is done"])
      #expect(run.errors.contains("no progress for 1 s") && run.errors.contains("goes on"), "\(run)")
    }

    @Test func slowRanksAreLeftAlone() async throws {
      let run = try await MPIRun.probe("slow", ["1"], ranks: 2)
      #expect(run.status == 0 && run.errors.isEmpty, "\(run)")
    }

    @Test func zeroWatchesNothing() async throws {
      let run = try await MPIRun.probe("idle", ["0", "2"], ranks: 2)
      #expect(run.status == 0 && run.errors.isEmpty, "\(run)")
    }

    @Test func suspendedTimeDoesNotCount() {
      var stillness = Stillness()
      stillness.observe(7, after: 1, atMost: 2)
      #expect(stillness.seconds == 0)
      stillness.observe(7, after: 1, atMost: 2)
      stillness.observe(7, after: 3600, atMost: 2)
      #expect(stillness.seconds == 3)
      stillness.observe(8, after: 1, atMost: 2)
      #expect(stillness.seconds == 0)
    }
  }
}
