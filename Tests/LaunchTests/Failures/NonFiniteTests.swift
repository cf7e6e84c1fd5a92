import Foundation
import TestSupport
import Testing

@testable import Dist
@testable import Launch

/// A number that is not finite on one rank stops all ranks, or makes all of them skip the step. Here it is an embedding
/// in a teacher's cache, whose checksums are not verified.
@Suite struct NonFiniteTests {
  let caches: CacheScene
  var scene: TrainScene { caches.scene }
  /// The dataset's sample whose embedding is not a number. It is in one of the three batches of each epoch.
  private let bad = 4

  init() async throws {
    caches = try await CacheScene()
    try await caches.precompute("spoiled", ranks: nil)
    let manifest = try #require(try CacheManifest.read(caches.folder("spoiled")))
    let part = manifest.parts[bad / CacheScene.parts]
    let file = try FileHandle(forUpdating: URL(filePath: "\(caches.folder("spoiled"))/\(part.file)"))
    let width = manifest.description.teacher.width * MemoryLayout<Float>.size
    for view in 0..<2 {
      try file.seek(toOffset: UInt64(part.imageOffset + ((bad - part.first) * 2 + view) * width))
      try file.write(contentsOf: withUnsafeBytes(of: Float.nan) { Data($0) })
    }
    try file.close()
  }

  private func run(
    _ name: String, _ values: [String], _ options: [String] = [], ranks: Int
  ) async throws -> MPIRun {
    let all = caches.settings("spoiled") + ["data.verify=sizes", "name=\(name)"] + values
    return try await scene.run(all, options, ranks: ranks)
  }

  @Test func policies() async throws {
    // Policy stop: one rank's number ends all ranks with one message.
    let stopped = try await run("stop", [], ranks: 2)
    #expect(stopped.status == 76, "\(stopped)")
    let found = try #require(
      stopped.errors.firstMatch(
        of: /kinship: step (\d+): loss nan .*not finite .*rank (\d): teacher's image embeddings/), "\(stopped)")
    #expect(stopped.errors.ranges(of: "not finite").count == 1, "\(stopped)")
    let first = try #require(Int(found.1))
    #expect(first <= 3 && !stopped.errors.contains("rank \(found.2 == "0" ? 1 : 0): teacher"))
    #expect(stopped.leftBehind.isEmpty)

    // Policy skip: the step has no line in the log; the losses are the same on any number of ranks, and when resumed.
    let skip = ["non_finite=skip", "steps=8", "checkpoint.every=4"]
    var losses: [[Double]] = []
    for ranks in [2, 3] {
      let run = try await run("skip\(ranks)", skip, ranks: ranks)
      #expect(run.status == 0, "\(run)")
      #expect(run.output.contains("the update is skipped (1 in a row, 2 since the start)"), "\(run)")
      losses.append(try scene.losses("skip\(ranks)"))
    }
    let skipped = try scene.log("skip2", "note").filter { $0.note?.contains("is skipped") ?? false }.map(\.step)
    #expect(skipped.first == first && (2...3).contains(skipped.count))
    #expect(losses[0].count == 8 - skipped.count && losses[0].allSatisfy(\.isFinite))
    #expect(difference(losses[1], losses[0]) < 1e-5)
    try FileManager.default.removeItem(at: scene.checkpoint("skip2", 8))
    try FileManager.default.removeItem(at: scene.runFolder("skip2").appending(path: "checkpoints/latest"))
    let resumed = try await run("skip2", skip, ["--resume", "auto"], ranks: 2)
    #expect(resumed.status == 0 && resumed.output.contains("going on after step 4"), "\(resumed)")
    #expect(try scene.losses("skip2") == losses[0])
    try await rewind(first)
  }

  /// The run goes back to its checkpoint and does not meet the bad batch again before the next epoch.
  private func rewind(_ first: Int) async throws {
    let values = ["non_finite=rewind", "checkpoint.every=1", "checkpoint.keep=all", "optimizer.schedule=constant"]
    // If the very first batch is bad, there is no checkpoint to go back to.
    guard first > 1 else {
      let run = try await run("back", values, ranks: 2)
      #expect(run.status == 76 && run.errors.contains("there is no checkpoint yet to go back to"), "\(run)")
      return
    }
    let run = try await run("back", values + ["steps=5"], ranks: 2)
    #expect(run.status == 0, "\(run)")
    #expect(
      run.output.contains("going back to step \(first - 1), and skipping the batch after it"), "\(run)")
    let losses = try scene.losses("back")
    #expect(losses.count == 5 && losses.allSatisfy(\.isFinite))
    let notes = try scene.log("back", "note").compactMap(\.note).filter { $0.contains("going back") }
    let record = try Checkpoint.open(scene.checkpoint("back", 5).path).manifest.record
    #expect(record.passedOver == notes.count)

    // A resumed run does not return to the skipped batches.
    for step in first + 1...5 { try FileManager.default.removeItem(at: scene.checkpoint("back", step)) }
    try FileManager.default.removeItem(at: scene.runFolder("back").appending(path: "checkpoints/latest"))
    let again = try await self.run("back", values + ["steps=5"], ["--resume", "auto"], ranks: 2)
    #expect(again.status == 0 && again.output.contains("going on after step \(first)"), "\(again)")
    #expect(try scene.losses("back") == losses)
  }
}
