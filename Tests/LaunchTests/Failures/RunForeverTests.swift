import Foundation
import TestSupport
import Testing

@testable import Launch

/// Tests `scripts/run-forever` with real runs, and with commands that end with given exit codes.
@Suite struct RunForeverTests {
  @Test func killedRunsGoOnToTheirEnd() async throws {
    let scene = try await TrainScene()
    let values = ["steps=150", "checkpoint.every=10", "watchdog.deadline=4"]
    // Checkpoints are published behind the run: a kill by the step alone could come before the first.
    let run = try await scene.disturb(
      "forever", values, ranks: 2, by: TrainScene.forever,
      "exists \"$RUN/checkpoints/latest\"\nall KILL 1\nbefore=$(lines | wc -l)\nsteps 25\nall STOP 0")
    #expect(run.status == 0, "\(run)")
    #expect(run.errors.contains("run-forever: ended with 137; starting again in 0 s"), "\(run)")
    #expect(run.errors.contains("run-forever: ended with 77; starting again in 0 s"), "\(run)")
    #expect(run.output.ranges(of: "going on after step ").count == 2, "\(run)")
    #expect(run.leftBehind.isEmpty)
    #expect(try scene.losses("forever") == (try await scene.train("straight", values, ranks: 2)))
  }

  @Test func signalsArePassedOn() async throws {
    let scene = try await TrainScene()
    let values = ["steps=1_000_000", "checkpoint.every=1_000"]
    for signal in ["TERM", "HUP", "KILL"] {
      let run = try await scene.disturb(
        signal, values, ranks: 2, by: TrainScene.forever, "steps 5\nkill -\(signal) $job")
      #expect(run.status == (signal == "KILL" ? 137 : 75), "\(run)")
      #expect(run.output.contains("stopped by SIGUSR1 after step"), "\(run)")
      #expect(!run.errors.contains("starting again") && run.leftBehind.isEmpty, "\(run)")
    }
  }

  /// A command that prints its arguments and the step from which it resumes, and ends with the first of the exit codes.
  private func forever(_ options: [String], codes: String, steps: String) async throws -> (MPIRun, starts: Int) {
    let folder = try TemporaryFolder()
    let command = """
      echo "$@" >> starts; n=$(wc -l < starts); set -- $CODES; code=${!n:-${!#}}; set -- $STEPS
      echo "going on after step ${!n:-${!#}}"; exit "$code"
      """
    let run = try await MPIRun.execute(
      ["bash", "-c", "cd '\(folder.url.path)' && exec \"$@\"", "bash", TrainScene.scripts + "/run-forever"] + options
        + ["--pause", "0", "bash", "-c", command, "train"], ["CODES": codes, "STEPS": steps])
    let starts = try String(contentsOfFile: folder.path("starts"), encoding: .utf8).split(separator: "\n")
    #expect(starts.allSatisfy { $0 == "--resume auto" }, "\(starts)")
    return (run, starts.count)
  }

  @Test func whatIsStartedAgain() async throws {
    let all = try await forever(["--limit", "9"], codes: "75 77 137 138 143 0", steps: "0")
    #expect(all.0.status == 0 && all.starts == 6, "\(all.0)")
    for code in [64, 65, 70, 74, 76, 78, 1] {
      let run = try await forever([], codes: "\(code)", steps: "0")
      #expect(run.0.status == code && run.starts == 1, "\(run.0)")
      #expect(run.0.errors.contains("ended with \(code), which another start would not change"), "\(run.0)")
    }
  }

  /// A run that begins again does so once: until it has begun it is started as it was, and then it is resumed.
  @Test(arguments: [["--resume", "fresh"], ["--resume=fresh", "--accept-changes"]])
  func freshRunsBeginOnce(resume: [String]) async throws {
    let folder = try TemporaryFolder()
    let command = """
      echo "$@" >> "$STARTS"; n=$(wc -l < "$STARTS"); [ $n = 1 ] || echo "begins at step 0, as --resume fresh says"
      [ $n -ge 4 ] || exit 137
      """
    let run = try await MPIRun.execute(
      ["bash", TrainScene.scripts + "/run-forever", "--pause", "0", "bash", "-c", command, "train"] + resume,
      ["STARTS": folder.path("starts")])
    #expect(run.status == 0, "\(run)")
    let starts = try String(contentsOfFile: folder.path("starts"), encoding: .utf8).split(separator: "\n")
    let first = resume.joined(separator: " ")
    let later = first.replacing("fresh", with: "auto")
    #expect(starts.map(String.init) == [first, first, later, later])
  }

  @Test func startsThatGainNothing() async throws {
    let run = try await forever(["--limit", "3"], codes: "77", steps: "0 10 10 20 20 20")
    #expect(run.0.status == 77 && run.starts == 6, "\(run.0)")
    #expect(run.0.errors.contains("3 starts in a row from step 20 have gained nothing"), "\(run.0)")
    let wrong = try await MPIRun.execute(["bash", TrainScene.scripts + "/run-forever", "--limit", "0", "true"])
    #expect(wrong.status == 64 && wrong.errors.contains("--limit: expected a number from 1, found '0'"), "\(wrong)")
  }

  /// Whoever shows what the command says ends with it, although nobody can read it.
  @Test func closedStreams() async throws {
    let run = try await MPIRun.execute(
      ["bash", "-c", "exec \"$0\" true >&- 2>&-", TrainScene.scripts + "/run-forever"])
    #expect(run.status == 0 && run.leftBehind.isEmpty, "\(run) \(run.leftBehind)")
  }
}
