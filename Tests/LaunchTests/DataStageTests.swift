import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Runs whose data are copied to a disk of the node first.
@Suite struct DataStageTests {
  /// Returns the header's line about the copies.
  private func line(_ scene: TrainScene, _ name: String) throws -> String {
    let facts = try #require(try scene.log(name, "header").first?.facts)
    return try #require(facts.first { $0.name == "stage" }).text
  }

  @Test func theLossesAreTheSameAndNothingIsLeft() async throws {
    let scene = try await TrainScene()
    let straight = try await scene.train("straight", ["steps=4"], ranks: 2)
    let staged = ["steps=4", "data.stage=$STAGING_DISK/stage"]
    let run = try await scene.run(
      ["name=staged"] + staged, ranks: 2, environment: ["STAGING_DISK": scene.folder.path("disk")])
    #expect(run.status == 0, "\(run)")
    #expect(try scene.losses("staged") == straight)
    let size = Figures.bytes(try Dataset.open(scene.dataset).index.totals.fileBytes)
    let text = try line(scene, "staged")
    #expect(text.hasPrefix("\(size) to $STAGING_DISK/stage on 1 node: \(size) copied in "), "\(text)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: scene.folder.path("disk/stage")) == [])

    let plan = try await scene.run(staged, ["--dry-run"], ranks: nil)
    #expect(
      plan.status == 0 && plan.output.contains("\nstage  \(size) to $STAGING_DISK/stage on each node\n"), "\(plan)")
    let without = try await scene.run(["name=without"] + staged, ranks: 2)
    #expect(without.status == 64, "\(without)")
    #expect(without.errors.contains("data.stage: is $STAGING_DISK/stage, and the environment on "), "\(without)")
    #expect(!FileManager.default.fileExists(atPath: scene.runFolder("without").path))
  }

  @Test func cachesAreCopiedToo() async throws {
    let scene = try await CacheScene()
    try await scene.precompute("cache", ranks: 2)
    let straight = try await scene.train("straight", from: "cache", ["steps=4"], ranks: 2)
    let disk = scene.scene.folder.path("disk")
    let staged = try await scene.train("staged", from: "cache", ["steps=4", "data.stage=\"\(disk)\""], ranks: 2)
    #expect(staged == straight)
    let shards = try Dataset.open(scene.scene.dataset).index.totals.fileBytes
    let parts = try #require(try CacheManifest.read(scene.folder("cache"))).parts.reduce(0) { $0 + $1.bytes }
    #expect(try line(scene.scene, "staged").hasPrefix("\(Figures.bytes(shards + parts)) to "))
    #expect(try FileManager.default.contentsOfDirectory(atPath: disk) == [])
  }

  @Test func aVariableStandsInFront() throws {
    let environment = ["DISK": "/scratch/1", "EMPTY": ""]
    for (path, expected) in [
      ("$DISK", "/scratch/1"), ("$DISK/a/b", "/scratch/1/a/b"), ("/a/$DISK", "/a/$DISK"), ("a", "a"),
    ] { #expect(try DataStage.folder(path, environment, host: "node-1") == expected) }
    for path in ["$EMPTY/a", "$MISSING"] {
      let error = #expect(throws: UserError.self) { try DataStage.folder(path, environment, host: "node-1") }
      #expect(error?.status == .usage && error?.description.contains("the environment on node-1 has no ") == true)
    }
    for path in ["$", "$/a", "${DISK}/a", "$DISK-1", "$1"] {
      let error = #expect(throws: UserError.self) { try DataStage.folder(path, environment, host: "node-1") }
      #expect(error?.status == .usage && error?.description.contains("expected a variable's name of ") == true)
    }
  }
}
