import TestSupport
import Testing

@testable import Dist

/// The watchdog ends jobs that hang.
extension MPITests {
  @Suite struct WatchdogTests {
    let folder = try! TemporaryFolder()

    /// A stopped rank neither ends nor reports, like one behind a dead link or on a suspended node.
    @Test(arguments: [2, 3])
    func stoppedRankEndsTheJob(ranks: Int) async throws {
      let run = try await MPIRun.probe("stopped", ["1", folder.pipe("pipe")], ranks: ranks)
      #expect(run.status == 77, "\(run)")
      for rank in 0..<ranks - 1 {
        #expect(run.errors.contains("kinship: rank \(rank) of \(ranks) on "), "\(run)")
      }
      #expect(!run.errors.contains("kinship: rank \(ranks - 1) of"), "\(run)")
      #expect(
        run.errors.contains(
          ": no progress for 1 s, training after step 5; "
            + "last collectives job: barrier #2 (inside), gradients: barrier #1"), "\(run)")
      #expect(run.errors.contains("the watchdog ends the job"), "\(run)")
    }

    /// A rank that hangs outside of MPI reports it, and its collective numbers differ from those of waiting ranks.
    @Test func rankThatHangsOutsideOfMPI() async throws {
      let run = try await MPIRun.probe("hanging", ["1", folder.pipe("pipe")], ranks: 2)
      #expect(run.status == 77, "\(run)")
      #expect(
        run.errors.contains("kinship: rank 0 of 2 on ") && run.errors.contains("job: barrier #1 (inside)"), "\(run)")
      #expect(run.errors.contains("kinship: rank 1 of 2 on ") && run.errors.contains("job: none #0"), "\(run)")
    }

    @Test func whatComesBackGoesOn() async throws {
      let run = try await MPIRun.probe("idle", ["1"], ranks: 2)
      #expect(run.status == 0, "\(run)")
      #expect(run.lines == ["0 is done", "1 is done"])
      #expect(run.errors.contains("no progress for 1 s") && run.errors.contains("making progress again"), "\(run)")
    }

    /// With a deadline of 1 s and observations every 50 ms, steps of 0.9 s count as progress.
    @Test func slowRanksAreLeftAlone() {
      var stillness = Stillness()
      for look in 0..<1000 {
        stillness.observe(look / 18, after: 0.05, atMost: 0.1)
        #expect(stillness.seconds < 0.9)
      }
    }

    /// The watchdog counts signs and activities as progress; the probes cover collectives.
    @Test func signsAndActivitiesCountAsProgress() {
      let first = Progress.count
      Progress.made()
      let second = Progress.count
      Progress.enter(.preparing, after: 0)
      #expect(first != second && second != Progress.count)
    }

    @Test func zeroWatchesNothing() async throws {
      let run = try await MPIRun.probe("watched", ["0", "600"], ranks: nil)
      #expect(run.status == 0 && run.lines == ["0: false", "600: true"], "\(run)")
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
