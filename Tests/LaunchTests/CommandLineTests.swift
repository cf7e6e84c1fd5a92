import ArgumentParser
import Foundation
import TestSupport
import Testing

@testable import Launch

@Suite struct HelpTests {
  @Test func root() throws {
    let help = Kinship.helpMessage(columns: 100)
    let (about, commands) = try #require(
      help.firstRange(of: "\nSUBCOMMANDS:\n").map {
        (String(help[..<$0.lowerBound]), String(help[$0.upperBound...]))
      })
    #expect(
      about == """
        OVERVIEW: Distils large CLIP-style models into small ones, on clusters of CPU machines.

        Every command runs alone or under mpirun, with any number of ranks, and gives the same answer:

          mpirun -n 4 kinship train run.yaml

        Exit codes: 0 done, 64 usage, 65 data, 70 internal, 74 input or output, 75 run me again, 76 a
        number that is not finite, 77 a rank that hangs.

        USAGE: kinship <subcommand>

        OPTIONS:
          --version               Show the version.
          -h, --help              Show help information.

        """)
    #expect(commands.contains("  train                   Trains a model from a run file.\n"))
    #expect(
      commands.contains("  doctor                  Says what this machine or cluster is, and what is wrong with it.\n"))
  }

  @Test func train() {
    #expect(
      Kinship.helpMessage(for: Train.self, columns: 100) == """
        OVERVIEW: Trains a model from a run file.

        Alone or under mpirun; the result is the same for any number of ranks. The run's log, checkpoints
        and the resolved run file are kept in the folder output/name.

        USAGE: kinship train <run> [--set <path=value> ...] [--resume <auto|latest|path>] [--dry-run] [--trace <prefix>]

        ARGUMENTS:
          <run>                   The run file (YAML). scripts/recipes/example.yaml shows every key.

        OPTIONS:
          --set <path=value>      Overrides one value, such as optimizer.rate=1e-3. May be repeated; the
                                  last one wins.
          --resume <auto|latest|path>
                                  Goes on from a checkpoint: auto (the latest if there is one), latest, or
                                  the path of a checkpoint or of a run.
          --dry-run               Checks the run, prints what it would do, and stops.
          --trace <prefix>        Writes what each rank does when to PREFIX.RANK.json, for chrome://tracing
                                  or Perfetto.
          --version               Show the version.
          -h, --help              Show help information.

        """)
  }

  @Test func doctor() {
    #expect(
      Kinship.helpMessage(for: Doctor.self, columns: 100) == """
        OVERVIEW: Says what this machine or cluster is, and what is wrong with it.

        Start it as a run would be started (mpirun -n 4 kinship doctor): processor, BLAS kernel and its
        measured speed, what precision: auto takes and why, cores and threads of every rank, libraries,
        shared memory; latency and bandwidth between ranks, clocks; then what is wrong, with the command
        that mends it.

        USAGE: kinship doctor [--json] [--folder <path>]

        OPTIONS:
          --json                  Prints one JSON object instead of text.
          --folder <path>         Also tries this folder: whether all ranks see the same files in it, and
                                  whether locks work. Small files are made and removed.
          --version               Show the version.
          -h, --help              Show help information.

        """)
  }

  @Test func whereARunGoesOnFrom() throws {
    let train = try #require(try Kinship.parseAsRoot(["train", "r.yaml", "--resume", "latest"]) as? Train)
    #expect(train.resume == .latest && train.overrides == [] && !train.dryRun)
    #expect(Resume(argument: "auto") == .auto && Resume(argument: "a/b") == .path("a/b") && Resume(argument: "") == nil)
  }
}

/// The real program: what it prints where, and how it ends.
@Suite(.serialized) struct CommandLineTests {
  @Test func theVersionIsPrinted() async throws {
    let run = try await MPIRun.kinship(["--version"], ranks: nil)
    #expect(run.status == 0 && run.output == "\(Release.version)\n" && run.errors == "")
  }

  @Test(arguments: [["--help"], ["train", "--help"], []]) func helpIsPrintedOnceForAllRanks(
    arguments: [String]
  ) async throws {
    let run = try await MPIRun.kinship(arguments, ranks: 3)
    #expect(run.status == 0)
    #expect(run.output.ranges(of: "USAGE: ").count == 1)
  }

  @Test(arguments: [nil, 2]) func usageErrorsEndWith64AndAreToldOnce(ranks: Int?) async throws {
    for arguments in [["trian"], ["train"], ["train", "a", "b"], ["doctor", "--jsno"]] {
      let run = try await MPIRun.kinship(arguments, ranks: ranks)
      #expect(run.status == 64, "\(arguments): \(run)")
      #expect(run.errors.ranges(of: "Error: ").count == 1, "\(arguments): \(run)")
    }
  }

  @Test(arguments: [nil, 2]) func mistakesInTheRunFileAreToldOnce(ranks: Int?) async throws {
    let folder = try TemporaryFolder()
    let file = try folder.write("run.yaml", Data((RunFileTests.least + "\nlog: {evry: 1}").utf8))
    let run = try await MPIRun.kinship(["train", file, "--set", "seed=x"], ranks: ranks)
    #expect(run.status == 64)
    let told =
      "kinship: \(file):6:7: unknown key \"evry\" in log; did you mean \"every\"? Known keys: every, tensorboard\n"
      + "--set seed=x: seed: expected a whole number from 0, found the text \"x\"\n"
    #expect(run.errors.ranges(of: told).count == 1, "\(run)")
  }

  @Test func aMissingRunFileEndsWith74() async throws {
    let run = try await MPIRun.kinship(["train", "/nowhere/run.yaml"], ranks: nil)
    #expect(run.status == 74)
    #expect(run.errors.hasPrefix("kinship: cannot read the run file /nowhere/run.yaml: "))
  }
}
