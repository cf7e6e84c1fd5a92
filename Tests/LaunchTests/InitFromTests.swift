import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Tests `init.from` through the program: the forms of the source, the resulting weights, and the sources that are
/// refused.
@Suite struct InitFromTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  /// The learning rate is so small that no number changes: a run writes the weights that it started with.
  private static let still = ["steps=1", "optimizer.learning_rate=1e-30", "seed=77"]

  private func from(_ path: String) -> String { "init.from=\"\(path)\"" }

  private func weights(_ folder: URL) throws -> SafetensorsFile {
    try SafetensorsFile(folder.appending(path: ModelFiles.weights))
  }

  /// Returns the tensors that differ between two files of weights by more than the change of a zero in one step.
  private func differences(_ some: URL, _ others: URL) throws -> [String] {
    let (one, other) = (try weights(some), try weights(others))
    #expect(one.names.sorted() == other.names.sorted())
    return try one.names.filter { name in
      if try one.type(of: name) == .int64 { return try one.integers(name) != other.integers(name) }
      let (a, b): (Tensor<Float>, Tensor<Float>) = (try one.tensor(name), try other.tensor(name))
      return a.shape != b.shape || zip(a.array, b.array).contains { abs($0 - $1) > 1e-20 }
    }
  }

  private func kinship(_ arguments: [String], ranks: Int? = nil) async throws {
    let run = try await MPIRun.kinship(arguments, ranks: ranks)
    try #require(run.status == 0, "\(run)")
  }

  @Test func everyFormOfOneModelBeginsAlike() async throws {
    try await scene.train("source", ["steps=4"], ranks: 2)
    let source = scene.runFolder("source")
    let (theirs, merged) = (scene.folder.path("hugging"), scene.folder.path("merged.h5"))
    try await kinship(["weights", "export", source.path, "--form", "hugging_face", "--output", theirs])
    try await kinship(["merge", source.path, "--optimizer", "-o", merged])
    let file = source.appending(path: ModelFiles.weights).path
    for (index, form) in [source.path, scene.checkpoint("source", 4).path, file, theirs, merged].enumerated() {
      for ranks in index == 0 ? [1, 2, 3] : [1 + index % 3] {
        let name = "form\(index)on\(ranks)"
        let run = try await scene.run(["name=\(name)", from(form)] + Self.still, ranks: ranks)
        #expect(run.status == 0 && run.output.contains("begins with the weights of \(form) ("), "\(run)")
        #expect(try differences(scene.runFolder(name), source) == [], "\(form) on \(ranks)")
        // The source's training does not count: the first step is step 1.
        #expect(try scene.log(name, "step").map(\.step) == [1])
        let saved = try SavedRun(Checkpoint.open(scene.checkpoint(name, 1).path))
        #expect(saved.start?.path == form && saved.start?.key == "from")
      }
    }
    let saved = try SavedRun(Checkpoint.open(scene.checkpoint("form2on3", 1).path))
    #expect(saved.start?.sha256 == (try SHA256.ofFile(file)))
    let drawn = try await scene.run(["name=drawn"] + Self.still, ranks: 1)
    #expect(drawn.status == 0 && !drawn.output.contains("begins with"), "\(drawn)")
    #expect(try differences(scene.runFolder("drawn"), source).count > 20)
    let log = try String(contentsOf: scene.runFolder("form0on2").appending(path: RunLog.fileName), encoding: .utf8)
    #expect(log.contains("\"note\":\"begins with the weights of"), "\(log)")
  }

  /// The moments and the schedule restart: two runs from the same weights are equal, although one source is a file of
  /// weights and the other a checkpoint with moments.
  @Test func theOptimizerIsFreshAndTheWayOnNeedsNoSource() async throws {
    try await scene.train("source", ["steps=3"], ranks: 2)
    let merged = scene.folder.path("merged.safetensors")
    try await kinship(["merge", scene.runFolder("source").path, "-o", merged])
    let bare = try await scene.train("bare", [from(merged), "checkpoint.every=4"], ranks: 2)
    let full = try await scene.train("full", [from(scene.runFolder("source").path)], ranks: 2)
    #expect(bare == full && bare.count == 10)

    try FileManager.default.removeItem(at: scene.runFolder("source"))
    try FileManager.default.removeItem(atPath: merged)
    let on = try await scene.run(
      ["name=on", from(merged)], ["--resume", scene.checkpoint("bare", 4).path], ranks: 2)
    #expect(on.status == 0 && !on.output.contains("begins with"), "\(on)")
    #expect(try scene.losses("on") == Array(bare.dropFirst(4)))
    let saved = try SavedRun(Checkpoint.open(scene.checkpoint("on", 10).path))
    #expect(saved.start?.path == merged, "a run that goes on remembers where it began")
    let lost = try await scene.run(["name=lost", from(merged)], ranks: 2)
    #expect(lost.status == 74 && lost.errors.contains("\(merged): there is no such file or folder"), "\(lost)")
    #expect(!FileManager.default.fileExists(atPath: scene.runFolder("lost").path))
    // A dry run without the source prints what it can.
    let dry = try await scene.run(["name=lost", from(merged)], ["--dry-run"], ranks: 2)
    #expect(dry.status == 0 && dry.output.contains("init.from, \(merged), is read only"), "\(dry)")
  }

  @Test func positionsOfOtherImagesAreResizedAsImportDoes() async throws {
    try await scene.train("small", ["steps=3"], ranks: 2)
    let small = scene.runFolder("small")
    let imported = scene.folder.path("imported")
    try await kinship([
      "weights", "import", small.appending(path: ModelFiles.weights).path, "--image-size", "32", "--output", imported,
    ])
    let larger = ["model.vision_cfg.image_size=32", from(small.path)]
    let run = try await scene.run(["name=large"] + larger + Self.still, ranks: 3)
    #expect(run.status == 0 && run.output.contains("positions of images resized from 16 px to 32 px"), "\(run)")
    #expect(try differences(scene.runFolder("large"), URL(filePath: imported, directoryHint: .isDirectory)) == [])
    let dry = try await scene.run(["name=dry"] + larger, ["--dry-run"], ranks: 2)
    #expect(dry.status == 0 && dry.output.contains("resized from 16 px to 32 px"), "\(dry)")
  }

  @Test func runningStatisticsComeAlong() async throws {
    let model = ["model.vision_cfg={image_size: 32, layers: [1, 1, 1, 1], width: 4, head_width: 32}"]
    try await scene.train("source", model + ["steps=5"], ranks: 2)
    let folder = scene.runFolder("source")
    for (index, path) in [folder.path, folder.appending(path: ModelFiles.weights).path].enumerated() {
      try await scene.train("run\(index)", model + [from(path)] + Self.still, ranks: 2)
      let arrays = try Checkpoint.open(scene.checkpoint("run\(index)", 1).path).manifest.record.arrays
      let counts = arrays.filter { $0.name.hasSuffix("num_batches_tracked") }.map(\.values)
      #expect(counts.count > 10 && counts.allSatisfy { $0 == [6] }, "\(counts)")
      let moved = try differences(scene.runFolder("run\(index)"), folder)
      #expect(moved.allSatisfy { $0.contains(".running_") || $0.hasSuffix("num_batches_tracked") }, "\(moved)")
    }
  }

  /// One message lists everything that does not fit.
  @Test func whatIsRefused() async throws {
    try await scene.train("source", ["steps=1"], ranks: 1)
    let folder = scene.runFolder("source")
    let file = folder.appending(path: ModelFiles.weights).path
    let others = [
      "model.vision_cfg.layers=1", "model.text_cfg.layers=3", "model.embed_dim=24", "model.quick_gelu=true",
    ]
    for (path, words) in [
      (folder.path, ["parameter text_projection has the shape [32, 16], the model expects [32, 24]"]),
      (file, ["misshapen: text_projection is [32, 16], the model's is [32, 24]"]),
    ] {
      let run = try await scene.run(["name=new", from(path)] + others, ["--dry-run"], ranks: 1)
      #expect(run.status == 65, "\(run)")
      for word in words + [
        "visual.transformer.resblocks.1.mlp.c_fc.weight", "transformer.resblocks.2.ln_1.bias", "visual.proj",
        "activation: the weights are for gelu, the model's is quick_gelu", "cut them with init.inherit",
      ] {
        #expect(run.errors.contains(word), "\(word): \(run)")
      }
      #expect(run.errors.components(separatedBy: "activation: the weights").count == 2, "\(run)")
    }
    // No shape shows the number of heads.
    let heads = try await scene.run(["name=new", from(file), "model.text_cfg.heads=4"], ranks: 2)
    #expect(
      heads.status == 65 && heads.errors.contains("text tower's weights are for 2, the model's has 4"), "\(heads)")
    let empty = scene.folder.path("pictures")
    let none = try await scene.run(["name=new", from(empty)], ranks: 1)
    #expect(none.status == 74 && none.errors.contains("\(empty): holds none of open_clip_model.safetensors"), "\(none)")

    let both = try await scene.run([from(file), "init.inherit=\"\(file)\""], ranks: nil)
    #expect(both.status == 64 && both.errors.contains("init.inherit: init.from takes a model's weights as"), "\(both)")
    let towers = try await scene.run([from(file), "init.towers=image"], ranks: nil)
    #expect(towers.status == 64 && towers.errors.contains("init.towers: belongs to init.inherit"), "\(towers)")
    let nothing = try await scene.run(["init.from=\"\""], ranks: nil)
    #expect(nothing.status == 64 && nothing.errors.contains("init.from: expected a path, or none"), "\(nothing)")
  }

  /// Another vocabulary with the same number of tokens, which no shape shows, is refused.
  @Test func anotherVocabularyIsRefused() async throws {
    try await scene.train("source", ["steps=1"], ranks: 1)
    let original = try Data(contentsOf: URL(filePath: scene.vocabulary))
    let text = try #require(try await MPIRun.execute(["gzip", "-dc", scene.vocabulary]).output as String?)
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    lines.swapAt(1, 2)
    try scene.folder.write("other.txt", lines.joined(separator: "\n").utf8)
    let packed = try await MPIRun.execute(["gzip", "-k", scene.folder.path("other.txt")])
    try #require(packed.status == 0, "\(packed)")
    let other = scene.folder.path("other.txt.gz")
    try #require(try Data(contentsOf: URL(filePath: other)) != original)
    let merged = scene.folder.path("merged.safetensors")
    try await kinship(["merge", scene.runFolder("source").path, "-o", merged])
    for path in [scene.runFolder("source").path, merged] {
      let run = try await scene.run(["name=new", from(path), "vocabulary=\"\(other)\""], ranks: 2)
      #expect(run.status == 65 && run.errors.contains("was trained with another vocabulary"), "\(run)")
    }
  }
}
