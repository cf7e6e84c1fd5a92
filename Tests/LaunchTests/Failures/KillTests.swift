import Foundation
import TestSupport
import Testing

/// `scripts/kill-test`, which disturbs real jobs at random moments and compares what they leave to the bit.
@Suite struct KillTests {
  private func killTest(_ options: [String], _ program: String? = nil, ranks: Int = 1) async throws -> MPIRun {
    try await MPIRun.execute(
      ["env", TrainScene.scripts + "/kill-test"] + options, ["KINSHIP": program ?? MPIRun.path(of: "kinship")],
      ranks: ranks)
  }

  /// Twenty kills of all commands; `scripts/kill-test --kills 200` does more, on one to three ranks.
  @Test func whatIsKilledGoesOnToTheSameBytes() async throws {
    let run = try await killTest(["--kills", "20", "--ranks", "2", "--deadline", "2"], ranks: 2)
    #expect(run.status == 0 && run.output.contains(/20 kills with seed 1 in [0-9]+ s: 0 faults\n/), "\(run)")
    #expect(run.leftBehind.isEmpty)
  }

  /// The program writes half of a file at once, has a code of its own for TERM, and computes something else when it is
  /// started again.
  @Test func faultsAreFound() async throws {
    let folder = try TemporaryFolder()
    let program = try folder.write(
      "kinship",
      """
      #!/bin/bash
      if [[ " $* " == *" --merges 60 "* ]]; then
        [[ ! -e begun ]] || set -- "${@/#60/9}"
        touch begun
        echo half >words.txt.gz
        trap 'exit 3' TERM
        sleep 1 & wait
      fi
      exec "\(MPIRun.path(of: "kinship"))" "$@"
      """.utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
    let kill = "--commands vocabulary --ranks 1 --signals TERM --targets rank-0 --moments 0.5"
    let run = try await killTest(["--kills", "1"] + kill.split(separator: " ").map(String.init), program, ranks: 2)
    #expect(run.status == 1 && run.output.contains(": 1 fault\n"), "\(run)")
    for words in [
      "kill-test: fault: vocabulary on 1 rank, TERM to rank-0 at 0.5 of its time: ended with 3, expected 0 or 75",
      "; words.txt.gz is damaged; ", "; was started again and left other bytes: words.txt.gz; ",
      "; again: scripts/kill-test --kills 1 \(kill) --deadline 3 --kinship \(program)\n",
    ] {
      #expect(run.errors.contains(words), "“\(words)” is not in \(run)")
    }
    // The files of a kill with a fault are kept.
    let kept = String(try #require(run.errors.firstMatch(of: #/; see (.*/kill-test-\w+)/kill-1;/#)).1)
    #expect(FileManager.default.fileExists(atPath: kept + "/kill-1/again.txt"))
    try FileManager.default.removeItem(atPath: kept)
  }

  /// A kill that is chosen can be repeated alone.
  @Test func theSeedChoosesTheKills() async throws {
    func kills(_ options: [String]) async throws -> [Substring] {
      let run = try await killTest(options + ["--dry-run"])
      #expect(run.status == 0, "\(run)")
      return run.output.split(separator: "\n")
    }
    let found = try await kills(["--kills", "60", "--seed", "3"])
    #expect(found.count == 60)
    #expect(try await kills(["--kills", "60", "--seed", "3"]) == found)
    #expect(try await kills(["--kills", "60", "--seed", "4"]) != found)
    let options = found[7].split(separator: " ").dropFirst().map(String.init)
    #expect(try await kills(options) == [found[7]])
    for word in ["train", "precompute", "evaluate", "embed", "merge", "reshard", "vocabulary", "import"] {
      #expect(found.contains { $0.contains(" --commands \(word) ") }, "\(word)")
    }
    for word in ["KILL", "STOP", "CONT", "TERM", "INT", "HUP", "USR1"] {
      #expect(found.contains { $0.contains(" --signals \(word) ") }, "\(word)")
    }
  }

  @Test(arguments: [
    (["--kills", "0"], "--kills: expected a number from 1, found '0'"),
    (["--seed", "02"], "--seed: expected a number from 1, found '02'"),
    (["--signals", "KILL,QUIT"], "--signals: expected some of KILL, STOP, CONT, TERM, INT, HUP, USR1, found 'QUIT'"),
    (["--commands", "doctor"], "found 'doctor'"), (["--moments", "1-0"], "--moments: expected a range such as 0-1.05"),
    (["--ranks", "1", "--signals", "STOP"], "no kill is possible"), (["--fast"], "--fast"),
  ])
  func wrongArgumentsAreRefused(_ arguments: [String], _ words: String) async throws {
    let run = try await killTest(arguments)
    #expect(run.status == 64 && run.errors.contains(words), "\(run)")
  }
}
