import TestSupport
import Testing

/// All tests of this target that start ranks. A job waits until `Cores` has a core for each of its ranks.
@Suite enum MPITests {}

extension MPITests {
  /// Tests that jobs end with the right code and with a message that names the rank and the host.
  @Suite struct JobTests {
    let folder = try! TemporaryFolder()

    @Test(arguments: [1, 2, 3])
    func throwingRankEndsTheJob(ranks: Int) async throws {
      let run = try await MPIRun.probe("throw", ["65"], ranks: ranks)
      #expect(run.status == 65, "\(run)")
      #expect(run.errors.contains(ranks == 1 ? "kinship: no" : "kinship: rank \(ranks - 1) of \(ranks) on "))
      #expect(run.errors.contains(": no bread in the house\n"))
    }

    @Test func errorWhileNoRankIsAtWorkNeedsNoAbort() async throws {
      let run = try await MPIRun.probe("throw-together", ["65"], ranks: 2)
      #expect(run.status == 65, "\(run)")
      #expect(run.errors.hasPrefix("kinship: no bread in the house\n") && !run.errors.contains("MPI_ABORT"), "\(run)")
      #expect(run.errors.ranges(of: "no bread").count == 1, "\(run)")
      let last = try await MPIRun.probe("throw-at-last", ["65"], ranks: 2)
      #expect(last.status == 65 && !last.errors.contains("MPI_ABORT"), "\(last)")
      #expect(last.errors.contains("kinship: rank 1 of 2 on ") && last.errors.contains(": no bread in"), "\(last)")
    }

    @Test func errorWithoutCodeIsInternal() async throws {
      let run = try await MPIRun.probe("throw-uncoded", ranks: 2)
      #expect(run.status == 70, "\(run)")
      #expect(run.errors.contains(": trouble\n"))
    }

    /// The time that has passed, in parts of so short a deadline, is beyond all integers.
    @Test(arguments: ["1e-300", "5e-324"])
    func theShortestDeadlineOfTheStart(seconds: String) async throws {
      let run = try await MPIRun.probe("yield", ranks: 1, environment: ["KINSHIP_START_DEADLINE": seconds])
      #expect(run.status == 77 && run.errors.contains("the ranks have not met within"), "\(run)")
    }

    @Test(arguments: [2, 3])
    func killedRankEndsTheJob(ranks: Int) async throws {
      let run = try await MPIRun.probe("killed", ranks: ranks)
      #expect(run.status == 137, "\(run)")
    }

    @Test func rankThatLeavesEndsTheJob() async throws {
      let run = try await MPIRun.probe("leave", ranks: 3)
      #expect(run.status != 0, "\(run)")
    }

    /// The last rank finishes before the others, which come while it waits for them. Its non-zero code must not end
    /// them.
    @Test(arguments: [1, 2, 3])
    func orderlyCodeWaitsForAll(ranks: Int) async throws {
      let run = try await MPIRun.probe("orderly", ["75", folder.pipe("pipe")], ranks: ranks)
      #expect(run.status == 75, "\(run)")
      #expect(run.lines == (0..<ranks - 1).map { "\($0) came" })
    }

    @Test func errorsOfMPISayCallCollectiveAndRank() async throws {
      let run = try await MPIRun.probe("bad-root", ranks: 2)
      #expect(run.status == 70, "\(run)")
      #expect(run.errors.contains("MPI_Bcast failed in collective broadcast #2 on rank "))
      #expect(run.errors.contains("MPI_ERR_ROOT: invalid root"))
    }

    @Test func disagreeingSizesAreAnError() async throws {
      let run = try await MPIRun.probe("disagree", ranks: 2)
      #expect(run.status == 70, "\(run)")
      #expect(run.errors.contains("MPI_ERR_TRUNCATE: message truncated"))
    }

    @Test func runsWithoutALauncher() async throws {
      let run = try await MPIRun.probe("place", ranks: nil)
      #expect(run.status == 0, "\(run)")
      #expect(run.lines == ["rank 0/1 node 0/1 ledgers duplicate #2, barrier #2 running false"])
      let failing = try await MPIRun.probe("throw", ["65"], ranks: nil)
      #expect(failing.status == 65, "\(failing)")
      #expect(failing.errors == "kinship: no bread in the house\n")
    }

    /// A launcher of another MPI starts ranks that do not find each other.
    @Test func aLauncherOfAnotherMPI() async throws {
      for rank in ["0", "1"] {
        let run = try await MPIRun.probe("place", ranks: nil, environment: ["PMI_RANK": rank, "PMI_SIZE": "2"])
        #expect(run.status == 64 && run.output.isEmpty, "\(run)")
        let message = "kinship: the launcher says that it started 2 ranks (PMI_SIZE), of which Open MPI v"
        #expect(rank == "0" ? run.errors.hasPrefix(message) && run.errors.contains(" joins 1; ") : run.errors.isEmpty)
      }
      let one = try await MPIRun.probe("place", ranks: nil, environment: ["PMI_RANK": "0", "PMI_SIZE": "1"])
      #expect(one.status == 0, "\(one)")
    }

    @Test func waitingRanksYieldUnlessTheUserSaysOtherwise() async throws {
      #expect(try await MPIRun.probe("yield", ranks: nil).lines == ["1"])
      let variable = ["OMPI_MCA_mpi_yield_when_idle": "0"]
      #expect(try await MPIRun.probe("yield", ranks: nil, environment: variable).lines == ["0"])
    }

    @Test func overdueRunsAreStopped() async throws {
      await #expect(throws: MPIRun.Overdue.self) {
        try await MPIRun.probe("endless", ranks: 2, limit: .seconds(3))
      }
    }

    /// Processes that a launcher leaves behind hold the test's pipes, so the test would wait for them forever.
    @Test func whatAnOverdueRunLeftBehindIsStopped() async throws {
      let overdue = await #expect(throws: MPIRun.Overdue.self) {
        try await MPIRun.execute(
          ["bash", "-c", "trap '' TERM; setsid sleep 600 & exec setsid sleep 601"], limit: .seconds(3))
      }
      let processes = try #require(overdue).processes
      #expect(processes.contains { $0.contains("sleep 600") } && processes.contains { $0.contains("sleep 601") })
    }
  }
}
