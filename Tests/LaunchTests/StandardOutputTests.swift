import Foundation
import TestSupport
import Testing

/// Standard output that cannot be written: on a full disk, closed from the start, or read by nobody any more.
@Suite struct StandardOutputTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  /// Runs the program with its standard output as a shell redirects it.
  private func run(_ arguments: [String], _ redirection: String) async throws -> MPIRun {
    try await MPIRun.execute(
      ["bash", "-c", redirection, "bash", try MPIRun.path(of: "kinship")] + arguments)
  }

  private var commands: [[String]] {
    [
      ["--help"], ["--version"], ["dataset", "inspect", scene.dataset, "--json"], ["dataset", "verify", scene.dataset],
      ["vocabulary", "inspect", scene.vocabulary, "a red fox"], ["train", scene.runFile, "--dry-run"],
      ["vocabulary", "train", scene.dataset, "--merges", "1", "--output", scene.folder.path("few.txt")],
    ]
  }

  @Test func aResultThatCannotBeWrittenIsAnError() async throws {
    for arguments in commands {
      let full = try await run(arguments, "\"$@\" >/dev/full")
      #expect(full.status == 74, "\(arguments): \(full)")
      let reason = "kinship: standard output: cannot be written: No space left on device; free some space, or direct it"
      #expect(full.errors == "\(reason) elsewhere\n", "\(arguments): \(full)")
    }
    let closed = try await run(commands[2], "\"$@\" >&-")
    #expect(closed.status == 74 && closed.errors.contains("Bad file descriptor"), "\(closed)")
  }

  @Test func aReaderThatHasLeftIsNone() async throws {
    for arguments in commands {
      // The reader has ended before the program begins.
      let run = try await run(arguments, "exec 3> >(:); wait $!; \"$@\" >&3")
      #expect(run.status == 0 && run.errors.isEmpty, "\(arguments): \(run)")
    }
  }

  /// The run goes on, and its log says so once.
  @Test func trainingGoesOn() async throws {
    for (name, redirection, reason) in [
      ("full", "\"$@\" >/dev/full", "No space left on device"),
      ("left", "exec 3> >(:); wait $!; \"$@\" >&3", "Broken pipe"),
    ] {
      let run = try await run(["train", scene.runFile, "--set", "name=\(name)"], redirection)
      #expect(run.status == 0, "\(run)")
      #expect(try scene.losses(name).count == 10)
      let notes = try scene.log(name, "note").compactMap(\.note).filter { $0.contains("standard output") }
      let expected = "warning: cannot write standard output: \(reason); the run goes on, and its lines are in log.jsonl"
      #expect(notes == [expected + " alone"])
    }
  }
}
