import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Tests runs with frozen parameters through the program.
@Suite struct FreezeTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private func weights(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(scene.runFolder(name).appending(path: ModelFiles.weights))
  }

  /// Returns the names of the tensors that differ between two runs in at least one bit.
  private func moved(_ name: String, from source: String) throws -> Set<String> {
    let (before, after) = (try weights(source), try weights(name))
    return Set(
      try after.names.filter { name in
        if try before.type(of: name) == .int64 { return try before.integers(name) != after.integers(name) }
        let (a, b): (Tensor<Float>, Tensor<Float>) = (try before.tensor(name), try after.tensor(name))
        return a.array.map(\.bitPattern) != b.array.map(\.bitPattern)
      })
  }

  private func from(_ name: String) -> String { "init.from=\"\(scene.runFolder(name).path)\"" }

  /// A whole tower or parts of both are frozen, with micro-batches and many buckets: frozen parameters keep every bit,
  /// all others change, and the number of ranks makes no difference.
  @Test(arguments: [
    (["visual"], ["visual."]),
    (["text", "visual.ln_pre"], ["t", "positional_embedding", "ln_final", "visual.ln_pre."]),
    (
      ["visual.transformer.resblocks.0", "visual.class_embedding", "token_embedding", "logit_scale"],
      ["visual.transformer.resblocks.0.", "visual.class_embedding", "token_embedding.", "logit_scale"]
    ),
  ]) func staysToTheBitOnAnyNumberOfRanks(freeze: [String], prefixes: [String]) async throws {
    try await scene.train("source", ["steps=3"], ranks: 2)
    let values = [
      from("source"), "freeze=[\(freeze.joined(separator: ", "))]", "optimizer.clip_norm=0.5", "steps=6",
    ]
    let alone = try await scene.train("on1", values, ranks: 1)
    let pieces = try await scene.train("on3", values + ["batch.micro_batch_size=1", "reduce.bucket=0.01"], ranks: 3)
    #expect(difference(pieces, alone) < 1e-5, "\(pieces), alone \(alone)")
    let small = values + ["reduce.bucket=0.002"]
    let together = try await scene.train("on2", small, ranks: 2)
    #expect(difference(together, alone) < 1e-5, "\(together), alone \(alone)")
    if freeze.count > 2 {
      #expect(try await scene.train("apart", small + ["reduce.overlap=false"], ranks: 2) == together)
    }
    let names = try weights("source").names
    let frozen = Set(names.filter { name in prefixes.contains { name.hasPrefix($0) } })
    #expect(!frozen.isEmpty && frozen.count < names.count)
    for name in ["on1", "on2", "on3"] { #expect(try moved(name, from: "source") == Set(names).subtracting(frozen)) }
  }

  /// A frozen tower does not use the statistics of the batch, so ranks make no difference even without sync_bn.
  @Test func batchNormsKeepTheirStatistics() async throws {
    let model = ["model.vision_cfg={image_size: 32, layers: [1, 1, 1, 1], width: 4, head_width: 32}"]
    try await scene.train("source", model + ["steps=4"], ranks: 2)
    let values = model + [from("source"), "steps=4"]
    let whole = values + ["freeze=[visual]"]
    let alone = try await scene.train("whole1", whole, ranks: 1)
    let run = try await scene.run(["name=whole3", "batch.micro_batch_size=2"] + whole, ranks: 3)
    #expect(
      run.status == 0 && run.output.contains("through the image tower; 19 of 19 batch norms use and keep"), "\(run)")
    #expect(difference(try scene.losses("whole3"), alone) < 1e-5)
    #expect(try moved("whole3", from: "source").allSatisfy { !$0.hasPrefix("visual.") })

    try await scene.train("part", values + ["freeze=[visual.layer2, visual.bn3]", "model.sync_bn=true"], ranks: 2)
    let moved = try moved("part", from: "source")
    #expect(!moved.contains { $0.hasPrefix("visual.layer2.") || $0.hasPrefix("visual.bn3.") })
    for name in ["visual.bn2.running_mean", "visual.bn2.num_batches_tracked", "visual.layer1.0.conv1.weight"] {
      #expect(moved.contains(name), "\(name)")
    }
  }

  @Test func goesOnWithTheSameBitsAndThawed() async throws {
    try await scene.train("source", ["steps=2"], ranks: 2)
    let freeze = "freeze=[visual, transformer.resblocks.1]"
    let values = [from("source"), freeze, "checkpoint.every=4", "steps=8", "reduce.bucket=0.01"]
    let straight = try await scene.train("straight", values, ranks: 2)
    let resume = ["--resume", scene.checkpoint("straight", 4).path]
    #expect(try await scene.train("rest", values, resume, ranks: 2) == Array(straight.dropFirst(4)))
    #expect(try moved("rest", from: "straight") == [])
    let other = try await scene.train("other", values, resume, ranks: 3)
    #expect(difference(other, Array(straight.dropFirst(4))) < 1e-5)
    #expect(try !moved("other", from: "source").contains { $0.hasPrefix("visual.") })
    try await scene.train("thawed", values + ["freeze=[]"], resume, ranks: 3)
    #expect(try moved("thawed", from: "source") == Set(try weights("source").names))
    let merged = scene.folder.path("merged.safetensors")
    let merge = try await MPIRun.kinship(["merge", scene.runFolder("rest").path, "-o", merged], ranks: 2)
    #expect(merge.status == 0, "\(merge)")
    let file = try SafetensorsFile(merged)
    let name = "visual.transformer.resblocks.1.mlp.c_fc.weight"
    #expect(try file.tensor(name, as: Float.self).array == (try weights("source").tensor(name, as: Float.self).array))
  }

  /// A frozen logit scale is not clamped to its bounds.
  @Test func theLogitScaleMayLieBeyondItsBounds() async throws {
    try await scene.train("source", ["steps=1"], ranks: 1)
    let source = try weights("source")
    let folder = scene.folder.url.appending(path: "hot")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let entries = try source.names.map { name in
      SafetensorsEntry(name, name == "logit_scale" ? Tensor<Float>(Shape(), [4.75]) : try source.tensor(name))
    }
    let path = folder.appending(path: ModelFiles.weights).path
    try SafetensorsFile.write(entries, metadata: source.metadata, to: path)
    for (index, freeze) in ["[logit_scale]", "[visual]"].enumerated() {
      try await scene.train("run\(index)", ["init.from=\"\(path)\"", "freeze=\(freeze)", "steps=1"], ranks: 2)
      let scale = try weights("run\(index)").tensor("logit_scale", as: Float.self)[0]
      #expect(index == 0 ? scale == 4.75 : scale < 4.61, "\(scale)")
    }
  }

  @Test func whatIsPlannedAndRefused() async throws {
    let dry = try await scene.run(["freeze=[visual]"], ["--dry-run"], ranks: 2)
    #expect(dry.status == 0 && dry.output.contains("frozen: visual, "), "\(dry)")
    #expect(dry.output.contains("there is no backward pass through the image tower"), "\(dry)")
    #expect(dry.output.contains("warning: freeze keeps weights that are initialized at random"), "\(dry)")
    let plain = try await scene.run([], ["--dry-run"], ranks: 2)
    #expect(!plain.output.contains("frozen"), "\(plain)")
    for (values, words) in [
      (
        ["freeze=[visual.transformer.resblock.1]"],
        "freeze.0: no parameter of the model has the name \"visual.transformer.resblock.1\" or begins with it; the "
          + "nearest names are visual.transformer.resblocks.1, visual"
      ),
      (["freeze=[visual, tokenembedding]"], "freeze.1: no parameter of the model has the name \"tokenembedding\""),
      (["freeze=[visual, text, logit_scale]"], "freeze leaves nothing of the model to train"),
      (["freeze=[visual]", "prune={sparsity: 0.4, step: 6}"], "freeze: prune cuts weights and freeze keeps them"),
      (["freeze=[logit_scale]", "objective.logit_scale=30"], "freeze.0: objective.logit_scale already fixes"),
      (["freeze=[\"\"]"], "freeze.0: expected a tower or the beginning of a name"),
      (["freeze=visual"], "freeze: expected a list, found the text \"visual\""),
    ] {
      let run = try await scene.run(values, ["--dry-run"], ranks: nil)
      #expect(run.status == 64 && run.errors.contains(words), "\(run)")
    }
  }

  @Test func aNameEndsWhereItsPartEnds() throws {
    var run = RunConfig()
    run.freeze = ["visual.transformer.resblocks.1", "transformer"]
    let layout = CLIP<Float>.layout(
      CLIPConfig(
        embedding: 4, vision: VisionConfig(imageSize: 8, patchSize: 4, width: 4, layers: 11, headWidth: 4),
        text: TextConfig(contextLength: 4, vocabularySize: 9, width: 4, heads: 1, layers: 1)))
    let frozen = try run.frozen(in: layout)
    #expect(frozen.contains("visual.transformer.resblocks.1.ln_1.bias"))
    #expect(!frozen.contains("visual.transformer.resblocks.10.ln_1.bias") && !frozen.contains("ln_final.bias"))
    #expect(frozen.contains("transformer.resblocks.0.ln_1.bias") && !frozen.text)
  }
}
