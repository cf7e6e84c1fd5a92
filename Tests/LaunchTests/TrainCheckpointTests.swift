import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Tests when a run saves, which checkpoints it keeps, and how long saving holds it up.
@Suite struct TrainCheckpointTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private func steps(_ name: String) throws -> [Int] {
    let folder = scene.runFolder(name).appending(path: "checkpoints").path
    return try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0 != "latest" }
      .map { Int($0.dropFirst("step-".count)) ?? -1 }.sorted()
  }

  @Test func savesByStepsByTimeAndAtTheEnd() async throws {
    for (name, settings, expected) in [
      ("never", "{every: none}", [6]), ("often", "{every: none, minutes: 1e-9, keep: all}", [1, 2, 3, 4, 5, 6]),
      ("rarely", "{every: none, minutes: 1e3}", [6]), ("both", "{every: 4, minutes: 1e3}", [4, 6]),
      ("some", "{every: 1, keep: 2, keep_every: 3}", [3, 5, 6]),
    ] {
      try await scene.train(name, ["steps=6", "checkpoint=\(settings)"], ranks: 2)
      #expect(try steps(name) == expected, "\(name)")
      #expect(try Checkpoint.open(scene.runFolder(name).path + "/checkpoints/latest").manifest.record.step == 6)
    }
  }

  @Test(arguments: [nil, 3]) func theBackgroundChangesNothing(ranks: Int?) async throws {
    let often = ["steps=6", "checkpoint.every=1", "checkpoint.keep=all"]
    let losses = try await scene.train("beside", often, ranks: ranks)
    #expect(try await scene.train("before", often + ["checkpoint.background=false"], ranks: ranks) == losses)
    for step in 1...6 {
      #expect(try scene.parts("beside", step) == scene.parts("before", step))
    }
    for name in ["beside", "before"] {
      let lines = try scene.log(name, "checkpoint")
      #expect(lines.map(\.step) == [1, 2, 3, 4, 5, 6])
      for line in lines {
        let (blocked, written) = (line.blockedSeconds ?? -1, line.writtenSeconds ?? -1)
        #expect(written > 0 && blocked >= 0)
        if name == "before" { #expect(blocked >= written) }
      }
    }
  }

  /// A run may change from one form of checkpoints to the other, and its losses stay those of a run without a stop.
  @Test func ranksOfANodeShareAFile() async throws {
    let straight = try await scene.train("straight", ["steps=6"], ranks: 2)
    try await scene.train("shared", ["steps=6", "checkpoint={every: 3, parts: node}"], ranks: 2)
    #expect(try scene.losses("shared") == straight)
    let manifest = try Checkpoint.open(scene.checkpoint("shared", 3).path).manifest
    #expect(manifest.parts.map(\.file) == ["part-00000-of-00001.h5"] && manifest.ranks == 2)
    let resume = ["--resume", scene.checkpoint("shared", 3).path]
    #expect(try await scene.train("apart", ["steps=6"], resume, ranks: 2) == Array(straight.dropFirst(3)))
    #expect(try Checkpoint.open(scene.checkpoint("apart", 6).path).manifest.parts.count == 2)
  }

  @Test func mistakes() async throws {
    for (setting, words) in [
      ("checkpoint.every=0", "checkpoint.every: expected at least 1, or none, found 0"),
      ("checkpoint.minutes=0", "checkpoint.minutes: expected more than 0, or none, found 0"),
      ("checkpoint.keep_every=0", "checkpoint.keep_every: expected at least 1, or none, found 0"),
      ("checkpoint.background=maybe", "checkpoint.background"), ("checkpoint.parts=host", "checkpoint.parts"),
    ] {
      let run = try await scene.run([setting], ["--dry-run"], ranks: nil)
      #expect(run.status == 64 && run.errors.contains(words), "\(run)")
    }
  }
}
