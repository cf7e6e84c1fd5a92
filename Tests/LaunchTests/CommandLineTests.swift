import ArgumentParser
import Foundation
import TestSupport
import Testing

@testable import Launch

@Suite struct HelpTests {
  /// The help of an evaluation names the keys of its JSON file.
  @Test func figures() throws {
    let figures = ZeroShotFigures(
      dataset: "", images: 1, classes: 1, ofClasses: 1, templates: 1, top1Correct: 1, top5Correct: 1, top1: 1, top5: 1)
    let json = try JSONSerialization.jsonObject(with: JSONEncoder().encode(figures)) as? [String: Any]
    for key in try #require(json).keys { #expect(EvaluateZeroShot.configuration.discussion.contains(key), "\(key)") }
    #expect(EvaluateRetrieval.configuration.discussion.contains("corpus (the dataset), pictures (how many images)"))
  }

  @Test func root() throws {
    let help = Kinship.helpMessage(columns: 100)
    let (about, commands) = try #require(
      help.firstRange(of: "\nSUBCOMMANDS:\n").map {
        (String(help[..<$0.lowerBound]), String(help[$0.upperBound...]))
      })
    #expect(
      about == """
        OVERVIEW: Distils large CLIP-style models into small ones, on clusters of CPU machines.

        Every command runs alone or under mpirun, with any number of ranks, and gives the same answer.

        Example:

          mpirun -n 4 kinship train run.yaml

        Exit codes:

          0  done
          64  the command line or the run file is wrong
          65  a file's contents are wrong, or do not fit the rest
          70  an internal error, an MPI error, or a thread that the system refuses
          74  a file cannot be read or written
          75  stopped by a signal with everything saved; start again with --resume auto
          76  a loss, a gradient or an embedding is not finite
          77  the ranks did not meet, or one made no progress, before the deadline
          78  another job is writing to the folder

        USAGE: kinship <subcommand>

        OPTIONS:
          --version               Show the version.
          -h, --help              Show help information.

        """)
    #expect(commands.contains("  train                   Trains a model from a run file.\n"))
    #expect(
      commands.contains(
        "  doctor                  Describes this machine or cluster, and says what is wrong with it.\n"))
  }

  @Test func train() {
    #expect(
      Kinship.helpMessage(for: Train.self, columns: 100) == """
        OVERVIEW: Trains a model from a run file.

        It runs alone or under mpirun, and the result is the same for any number of ranks. The run's log,
        its checkpoints and the resolved run file are kept in the folder output/name.

        Example:

          mpirun -n 2 kinship train run.yaml --set optimizer.learning_rate=1e-3

        USAGE: kinship train <run> [--set <path=value> ...] [--resume <auto|latest|fresh|path>] [--accept-changes] \
        [--dry-run] [--trace <prefix>]

        ARGUMENTS:
          <run>                   The run file (YAML). scripts/recipes/example.yaml shows every key.

        OPTIONS:
          --set <path=value>      Overrides one value, such as optimizer.learning_rate=1e-3. May be
                                  repeated; the last one wins.
          --resume <auto|latest|fresh|path>
                                  Resumes from a checkpoint: auto (the latest sound one, if there are any),
                                  latest, or the path of a checkpoint or of a run. With fresh the run
                                  begins again, and its earlier checkpoints are set aside.
          --accept-changes        Resumes although a dataset has changed since: its path holds other data
                                  than the checkpoint's run had.
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
        OVERVIEW: Describes this machine or cluster, and says what is wrong with it.

        Start it as you would start a run. It shows the processor, the BLAS kernel and its measured speed,
        what precision: auto selects and why, the cores and threads of every rank, libraries and where they
        were loaded from, shared memory, latency and bandwidth between ranks, what carries their messages,
        and clocks; then what is wrong, with the command that fixes it.

        Example:

          mpirun -n 4 kinship doctor --folder runs

        USAGE: kinship doctor [--json] [--folder <path>]

        OPTIONS:
          --json                  Prints one JSON object instead of text.
          --folder <path>         Also tests this folder: whether all ranks see the same files in it, and
                                  whether locks work. Small files are created and removed.
          --version               Show the version.
          -h, --help              Show help information.

        """)
  }

  @Test func theCheckpointToResumeFrom() throws {
    let train = try #require(try Kinship.parseAsRoot(["train", "r.yaml", "--resume", "latest"]) as? Train)
    #expect(train.resume == .latest && train.overrides == [] && !train.dryRun)
    #expect(Resume(argument: "auto") == .auto && Resume(argument: "a/b") == .path("a/b") && Resume(argument: "") == nil)
  }
}

/// Every command's help shows a command line, and the command line is a valid one.
@Suite struct ExampleTests {
  /// The words that name each command, without `kinship`; the root has none.
  static let commands = paths(below: Kinship.self, [])

  private static func paths(below command: any ParsableCommand.Type, _ words: [String]) -> [[String]] {
    [words] + command.configuration.subcommands.flatMap { paths(below: $0, words + [$0._commandName]) }
  }

  private static func command(_ words: [String]) -> (any ParsableCommand.Type)? {
    words.reduce(Kinship.self as (any ParsableCommand.Type)?) { command, word in
      command?.configuration.subcommands.first { $0._commandName == word }
    }
  }

  /// The command lines under "Example:" or "Examples:".
  static func examples(in help: String) -> [String] {
    let lines = help.split(separator: "\n", omittingEmptySubsequences: false)
    guard let title = lines.firstIndex(where: { $0 == "Example:" || $0 == "Examples:" }) else { return [] }
    return lines[(title + 1)...].drop { $0.isEmpty }.prefix { $0.hasPrefix("  ") }.map { String($0.dropFirst(2)) }
  }

  @Test(arguments: commands) func anExampleIsAValidCommandLine(words: [String]) throws {
    let command = try #require(Self.command(words))
    let examples = Self.examples(in: Kinship.helpMessage(for: command, columns: 80))
    #expect(!examples.isEmpty)
    for example in examples {
      let typed = Self.words(of: example)
      let program = try #require(typed.firstIndex(of: "kinship"), "\(example)")
      #expect(program == 0 || typed[0] == "mpirun", "\(example)")
      let arguments = Array(typed[(program + 1)...])
      #expect(arguments.starts(with: words), "\(example)")
      let parsed = try Kinship.parseAsRoot(arguments)
      let isLeaf = command.configuration.subcommands.isEmpty
      let isThisCommand = ObjectIdentifier(type(of: parsed)) == ObjectIdentifier(command)
      #expect(!isLeaf || isThisCommand, "\(example)")
    }
  }

  /// The words of a command line, as a shell splits it.
  static func words(of line: String) -> [String] {
    var words: [String] = []
    var word: String?
    var quote: Character?
    for character in line {
      if character == quote {
        quote = nil
      } else if quote == nil, character == "'" || character == "\"" {
        quote = character
        word = word ?? ""
      } else if quote == nil, character == " " {
        if let word { words.append(word) }
        word = nil
      } else {
        word = (word ?? "") + String(character)
      }
    }
    return words + (word.map { [$0] } ?? [])
  }
}

/// The real program: what it prints where, and how it ends.
@Suite struct CommandLineTests {
  @Test(arguments: ExampleTests.commands) func theHelpShowsAnExample(words: [String]) async throws {
    let run = try await MPIRun.kinship(words + ["--help"], ranks: nil)
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains("USAGE: \((["kinship"] + words).joined(separator: " ")) "), "\(run)")
    #expect(!ExampleTests.examples(in: run.output).isEmpty, "\(run)")
  }

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
      "kinship: \(file):6:7: unknown key \"evry\" in log; did you mean \"every\"? Known keys: every, tensorboard,"
      + " term_gradients\n"
      + "--set seed=x: seed: expected a whole number from 0, found the text \"x\"\n"
    #expect(run.errors.ranges(of: told).count == 1, "\(run)")
  }

  @Test(arguments: ["/nowhere/run.yaml", "~/run.yaml"]) func aMissingRunFileEndsWith74(path: String) async throws {
    let run = try await MPIRun.kinship(["train", path], ranks: nil, environment: ["HOME": "/nowhere"])
    #expect(run.status == 74)
    #expect(run.errors.hasPrefix("kinship: cannot read the run file /nowhere/run.yaml: "))
  }
}
