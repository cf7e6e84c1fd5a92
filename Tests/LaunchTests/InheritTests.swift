import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Tests `init.inherit` through the program: the weights that a run starts with, and the sources that are refused.
@Suite struct InheritTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private static let wide = [
    "model.vision_cfg.width=48", "model.vision_cfg.layers=4", "model.text_cfg.width=48", "model.text_cfg.heads=3",
    "model.text_cfg.layers=3", "model.embed_dim=24",
  ]
  /// The learning rate is so small that no number changes: a run writes the weights that it started with.
  private static let still = ["steps=1", "optimizer.learning_rate=1e-30"]

  private func weights(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(scene.runFolder(name).appending(path: ModelFiles.weights))
  }

  private func inherit(_ name: String) -> String { "init.inherit=\"\(scene.runFolder(name).path)\"" }

  @Test func aChainOfStages() async throws {
    try await scene.train("wide", Self.wide + ["steps=4"], ranks: 2)
    let first = try await scene.run(
      ["name=first", inherit("wide"), "model.vision_cfg.width=32", "model.vision_cfg.layers=4"] + Self.still, ranks: 2)
    #expect(first.status == 0, "\(first)")
    #expect(
      first.output.contains("transformer.resblocks: 0 1 of 3 blocks")
        && first.output.contains("visual.transformer.resblocks: all of 4 blocks")
        && first.output.contains("image tower 32 of 48 wide; text tower 32 of 48 wide; embedding 16 of 24"), "\(first)")
    let log = try String(contentsOf: scene.runFolder("first").appending(path: RunLog.fileName), encoding: .utf8)
    #expect(log.contains("\"note\":\"inherits both towers"), "\(log)")
    let manifest = scene.checkpoint("wide", 4).appending(path: CheckpointManifest.file)
    #expect(log.contains("SHA-256 \(try SHA256.ofFile(manifest.path))"))

    let (wide, narrow) = (try weights("wide"), try weights("first"))
    for name in ["visual.transformer.resblocks.3.mlp.c_proj.weight", "text_projection", "visual.proj"] {
      let (from, to): (Tensor<Float>, Tensor<Float>) = (try wide.tensor(name), try narrow.tensor(name))
      let expected = (0..<to.rows).flatMap { from.rows($0..<$0 + 1).array.prefix(to.columns) }
      #expect(to.array == expected, "\(name)")
    }

    // Every second block of the first stage is inherited, from the file in open_clip's form as well as from the run.
    let second = try await scene.train(
      "second", [inherit("first")] + Self.still, ranks: 3)
    let file = scene.runFolder("first").appending(path: ModelFiles.weights).path
    let again = try await scene.train("again", ["init.inherit=\"\(file)\""] + Self.still, ranks: nil)
    #expect(difference(second, again) < 1e-5)
    let name = "transformer.resblocks.1.attn.in_proj_weight"
    let block: Tensor<Float> = try weights("second").tensor("visual.\(name)")
    #expect(
      block.array == (try narrow.tensor("visual.transformer.resblocks.2.attn.in_proj_weight", as: Float.self)).array)
    #expect(block.array == (try weights("again").tensor("visual.\(name)", as: Float.self)).array)
  }

  @Test func oneTowerAndTheWayOn() async throws {
    try await scene.train("wide", Self.wide + ["steps=2"], ranks: 1)
    try await scene.train("drawn", Self.still, ranks: 1)
    try await scene.train("image", [inherit("wide"), "init.towers=image"] + Self.still, ranks: 1)
    let (drawn, image) = (try weights("drawn"), try weights("image"))
    for name in drawn.names {
      let (some, other) = (try drawn.tensor(name, as: Float.self).array, try image.tensor(name, as: Float.self).array)
      // A zero changes by the learning rate. Norms and biases may look alike after the source's two steps.
      if !name.hasPrefix("visual.") { #expect(zip(some, other).allSatisfy { abs($0 - $1) < 1e-20 }, "\(name)") }
      if name.hasSuffix("weight"), name.contains("visual.transformer"), name.contains("proj") {
        #expect(some != other, "\(name)")
      }
    }
    // A resumed run does not need the source.
    try FileManager.default.removeItem(at: scene.runFolder("wide"))
    let on = try await scene.run(
      ["name=image", inherit("wide"), "init.towers=image", "steps=3"], ["--resume", "latest"], ranks: 2)
    #expect(on.status == 0 && !on.output.contains("inherits"), "\(on)")
    let fresh = try await scene.run(["name=fresh", inherit("wide")], ranks: 2)
    #expect(fresh.status == 65 || fresh.status == 74, "\(fresh)")
    #expect(fresh.errors.contains(scene.runFolder("wide").path), "\(fresh)")
  }

  @Test func whatIsRefused() async throws {
    try await scene.train("small", ["steps=1"], ranks: 1)
    let deeper = try await scene.run(
      ["name=new", inherit("small"), "model.vision_cfg.layers=3", "model.vision_cfg.patch_size=4"], ["--dry-run"],
      ranks: 2)
    #expect(deeper.status == 65, "\(deeper)")
    #expect(
      deeper.errors.contains("visual.transformer.resblocks: the student's 3 blocks cannot come from"), "\(deeper)")
    #expect(deeper.errors.contains("a kernel of 4×4 cannot be cut from one of 8×8"), "\(deeper)")
    #expect(!FileManager.default.fileExists(atPath: scene.runFolder("new").path))

    let words = scene.folder.path("other.txt.gz")
    let learned = try await MPIRun.kinship(
      ["vocabulary", "train", scene.dataset, "--merges", "20", "--output", words], ranks: nil)
    try #require(learned.status == 0, "\(learned)")
    let other = try await scene.run(["name=new", inherit("small"), "vocabulary=\"\(words)\""], ranks: 2)
    #expect(other.status == 65 && other.errors.contains("was trained with another vocabulary"), "\(other)")
    let fine = try await scene.run(
      ["name=new", inherit("small"), "vocabulary=\"\(words)\"", "init.towers=image"], ["--dry-run"], ranks: 1)
    #expect(fine.status == 0 && fine.output.contains("inherits the image tower"), "\(fine)")
    let wrong = try await scene.run(["init.towers=none"], ranks: nil)
    #expect(wrong.status == 64 && wrong.errors.contains("init.towers: expected both, image or text"), "\(wrong)")
  }
}
