import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Runs that cannot resume as they were refuse to, until the user says which way to go on.
@Suite struct ResumeChangesTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private func checkpoints(_ folder: String = "checkpoints") throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: scene.runFolder("tiny").appending(path: folder).path).sorted()
  }

  private func damage(_ step: Int) throws {
    let part = scene.checkpoint("tiny", step).appending(path: "part-00000-of-00001.h5")
    var bytes = try Data(contentsOf: part)
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: part)
  }

  /// Puts a dataset with the same samples in another order where the scene's is.
  private func replaceDataset() throws {
    let other = scene.folder.path("other")
    try scene.writeReorderedDataset(to: other)
    try FileManager.default.removeItem(atPath: scene.dataset)
    try FileManager.default.moveItem(atPath: other, toPath: scene.dataset)
  }

  @Test func otherDataAtTheSamePath() async throws {
    // The dataset may move.
    let moved = scene.folder.path("moved")
    try FileManager.default.copyItem(atPath: scene.dataset, toPath: moved)
    try await scene.train("tiny", ["steps=1", "data.datasets=[\"\(moved)\"]"], ranks: nil)
    try await scene.train("tiny", ["steps=2"], ["--resume", "auto"], ranks: nil)
    try replaceDataset()
    for resume in ["auto", "latest", scene.runFolder("tiny").path] {
      let run = try await scene.run(["steps=3"], ["--resume", resume], ranks: resume == "auto" ? 2 : nil)
      #expect(run.status == 65, "\(run)")
      #expect(run.errors.contains("other data at the same path: \(scene.dataset) (its fingerprint was "), "\(run)")
      #expect(run.errors.contains("--accept-changes") && run.errors.contains("--resume fresh"), "\(run)")
      #expect(run.errors.ranges(of: "other data").count == 1, "\(run)")
    }
    #expect(try scene.losses("tiny").count == 2)

    let accepted = try await scene.run(["steps=3"], ["--resume", "latest", "--accept-changes"], ranks: nil)
    #expect(accepted.status == 0 && accepted.output.contains("going on after step 2"), "\(accepted)")
    #expect(accepted.output.contains("warning: ") && accepted.output.contains("other data at the same"), "\(accepted)")
    // Now the checkpoint is of a run on these data.
    let again = try await scene.run(["steps=4"], ["--resume", "latest"], ranks: nil)
    #expect(again.status == 0 && !again.output.contains("other data"), "\(again)")
    let alone = try await scene.run(["steps=4"], ["--accept-changes"], ranks: nil)
    #expect(alone.status == 64 && alone.errors.contains("--accept-changes belongs to --resume"), "\(alone)")
  }

  @Test func noSoundCheckpoint() async throws {
    let values = ["steps=2", "checkpoint.every=1"]
    let losses = try await scene.train("tiny", values, ranks: nil)
    for step in [1, 2] { try damage(step) }
    for ranks in [nil, 2] {
      let run = try await scene.run(values, ["--resume", "auto"], ranks: ranks)
      #expect(run.status == 65, "\(run)")
      #expect(run.errors.contains("holds no checkpoint that can be read; mend one, or say --resume fresh"), "\(run)")
      for step in [1, 2] { #expect(run.errors.contains("step-0000000\(step): part-00000-of-00001.h5 was altered")) }
    }
    #expect(try scene.log("tiny", "start").count == 1)
    #expect(try checkpoints() == ["latest", "step-00000001", "step-00000002"])

    for (number, ranks) in [(1, nil), (2, 2)] as [(Int, Int?)] {
      let fresh = try await scene.run(values, ["--resume", "fresh"], ranks: ranks)
      #expect(fresh.status == 0 && !fresh.output.contains("going on after"), "\(fresh)")
      let moved = "the earlier checkpoints are now in \(scene.runFolder("tiny").path)/checkpoints.\(number)"
      #expect(fresh.output.contains("begins at step 0, as --resume fresh says; \(moved)\n"), "\(fresh)")
      for folder in ["checkpoints", "checkpoints.\(number)"] {
        #expect(try checkpoints(folder) == ["latest", "step-00000001", "step-00000002"])
      }
      #expect(difference(try scene.losses("tiny"), losses) < 1e-5)
    }
    let on = try await scene.run(["steps=3"], ["--resume", "auto"], ranks: nil)
    #expect(on.status == 0 && on.output.contains("going on after step 2"), "\(on)")
  }

  /// Without a checkpoint, auto begins and so does fresh.
  @Test func nothingToResume() async throws {
    for (name, resume) in [("one", "auto"), ("two", "fresh")] {
      let run = try await scene.run(["name=\(name)", "steps=1"], ["--resume", resume], ranks: nil)
      #expect(run.status == 0 && !run.output.contains("earlier checkpoints"), "\(run)")
    }
    // A folder without a manifest is what is left of a checkpoint that was being removed.
    try FileManager.default.removeItem(at: scene.checkpoint("two", 1).appending(path: CheckpointManifest.file))
    let run = try await scene.run(["name=two", "steps=1"], ["--resume", "auto"], ranks: nil)
    #expect(run.status == 65 && run.errors.contains("manifest.json"), "\(run)")
    // And so is the mark alone.
    try FileManager.default.removeItem(at: scene.checkpoint("two", 1))
    let missed = try await scene.run(["name=two", "steps=1"], ["--resume", "auto"], ranks: nil)
    #expect(missed.status == 65 && missed.errors.contains("step-00000001: there is no such folder"), "\(missed)")
  }

  @Test func roomForCheckpoints() async throws {
    let folder = scene.folder.path("none/checkpoints")
    var space = try CheckpointSpace(in: folder, bytes: 100, count: 4)
    #expect(space.present == 0 && space.free > 400)
    #expect(try space.warning() == nil)
    space.free = 399
    let words =
      "4 checkpoints of 100 B on the disk at once, 0 of which are there, and the file system of \(folder) has 399 B"
    #expect(try space.warning()?.contains(words) == true)
    space.present = 1
    #expect(try space.warning() == nil)
    (space.present, space.free) = (4, 99)
    let full = space
    let error = #expect(throws: UserError.self) { try full.warning() }
    #expect(error?.status == .inputOutput, "\(String(describing: error))")
    #expect(error?.reason.hasPrefix("a checkpoint of this run takes 100 B, and the file system of ") == true)
    try scene.folder.write("some/step-00000001/manifest.json", [])
    try scene.folder.write("some/step-00000002.partial/manifest.json", [])
    #expect(try CheckpointSpace(in: scene.folder.path("some"), bytes: 1, count: 1).present == 1)

    var config = CheckpointConfig()
    (config.every, config.keep) = (10, 3)
    #expect(config.most(in: 0..<5) == 1)
    #expect(config.most(in: 0..<35) == 4 && config.most(in: 0..<1000) == 4 && config.most(in: 980..<1000) == 2)
    config.keepEvery = 100
    #expect(config.most(in: 0..<1000) == 14)
    (config.keep, config.keepEvery) = (nil, nil)
    #expect(config.most(in: 0..<1000) == 100 && config.most(in: 0..<1001) == 101)
    (config.every, config.keep, config.minutes) = (nil, 3, 5)
    #expect(config.most(in: 0..<1000) == 4)
    // The best one is kept beside the others, and saved where none is due.
    var evaluate = EvaluateConfig()
    (evaluate.every, evaluate.keepBest, config.minutes) = (10, "loss", nil)
    #expect(config.most(in: 0..<1000, evaluate) == 5 && config.most(in: 0..<5, evaluate) == 1)
    config.keep = nil
    #expect(config.most(in: 0..<1000, evaluate) == 101)

    // No byte is free in a file system that has none.
    let run = try await scene.run(["output=/proc"], ranks: 2)
    #expect(run.status == 74, "\(run)")
    #expect(run.errors.contains(#/kinship: a checkpoint of this run takes .+, and the file system of .+ has 0 B free/#))
  }
}
