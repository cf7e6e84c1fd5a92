import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

@testable import Launch

/// Tests pruning through the program: the cut, resuming from checkpoints before and after it, and the next stage.
@Suite struct PruneTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  /// Ten steps are enough: the target is reached immediately, and log α falls by a third of its range in each step.
  private static let prune = "prune={sparsity: 0.4, step: 6, ramp: 0, learning_rate: 1.2}"

  private func config(_ name: String) throws -> CLIPConfig {
    try ModelFiles.sizes(scene.runFolder(name).appending(path: ModelFiles.config).path)
  }

  @Test func theSameOnAnyRanks() async throws {
    let alone = try await scene.train("alone", [Self.prune], ranks: nil)
    for ranks in [2, 3] {
      let losses = try await scene.train("on\(ranks)", [Self.prune, "batch.micro_batch_size=2"], ranks: ranks)
      #expect(difference(losses, alone) < 1e-5)
      #expect(try config("on\(ranks)") == config("alone"))
    }
    let cut = try config("alone")
    let blocks = try #require(cut.vision.blocks)
    #expect(blocks.fullWidth == 32 && blocks.fullHeads == 2 && blocks.fullHidden == 128 && blocks.headWidth == 16)
    #expect(cut.vision.width < 32 && blocks.hidden.allSatisfy { $0 < 128 } && cut.text.blocks != nil)
    let note = try #require(try scene.log("alone", "note").first { $0.note?.hasPrefix("cut from") == true })
    #expect(note.step == 6)
    let lines = try scene.log("alone", "step")
    #expect(
      lines.prefix(6).allSatisfy { $0.pruning?.target == 0.4 } && lines.dropFirst(6).allSatisfy { $0.pruning == nil })
    let expected = lines.prefix(6).compactMap { $0.pruning?.expected }
    #expect(expected[0] < 0.05 && expected[5] > expected[0] + 0.02, "\(expected)")
    // The learning rate rises until the cut and then falls.
    let rates = lines.compactMap(\.rate)
    #expect(rates.max() == rates[5] && abs(rates[0] - 5e-4 / 6) < 1e-9 && rates[9] < rates[6])

    let evaluation = try await MPIRun.kinship(
      ["evaluate", "retrieval", "--dataset", scene.dataset, "--checkpoint", scene.runFolder("on2").path], ranks: 2)
    #expect(evaluation.status == 0, "\(evaluation)")
    let json = try String(contentsOf: scene.runFolder("alone").appending(path: ModelFiles.config), encoding: .utf8)
    #expect(json.contains("open_clip cannot build"))
  }

  /// Blocks of sizes of their own in ONNX's form give the cut model's embeddings. The weights are large beside the
  /// program, so that the run's memory shows whether masks and the cut are predicted: they are a third of it.
  @Test func isExportedToONNX() async throws {
    let sizes =
      "model={embed_dim: 16, vision_cfg: {image_size: 16, patch_size: 8, width: 256, layers: 2, head_width: 64}, "
      + "text_cfg: {context_length: 8, vocab_size: 0, width: 256, heads: 4, layers: 2}}"
    let trained = try await scene.run(["name=cut", sizes, Self.prune], ranks: nil)
    try #require(trained.status == 0, "\(trained)")
    let found = try #require(
      trained.output.firstMatch(of: /predicted ([0-9.]+) MiB a rank and .* measured ([0-9.]+) MiB/), "\(trained)")
    let (predicted, measured) = (try #require(Double(found.1)), try #require(Double(found.2)))
    #expect(abs(predicted / measured - 1) < 0.15, "\(trained)")

    let (run, output) = (scene.runFolder("cut"), scene.folder.path("onnx"))
    let export = try await MPIRun.kinship(
      ["weights", "export", run.path, "--form", "onnx", "-o", output], ranks: nil)
    try #require(export.status == 0, "\(export)")
    let model = CLIP<Float>(try config("cut"), frozen: true)
    #expect(model.config.isPruned)
    try ModelFiles.read(run.appending(path: ModelFiles.weights).path, into: model)
    let (size, last) = (model.config.vision.imageSize, Int32(model.config.text.vocabularySize - 1))
    let visual = try ONNXFound(URL(filePath: "\(output)/\(ONNXExport.image)"))
    let images = try visual.deviation(from: model, images: .random(Shape(2, 3, size, size), "images"))
    #expect(images.relative <= 1e-4 && images.size > 0.1, "\(images)")
    let textual = try ONNXFound(URL(filePath: "\(output)/\(ONNXExport.text)"))
    let captions = try textual.deviation(from: model, captions: [[1, last], [2, 0, 3, last]])
    #expect(captions.relative <= 1e-4 && captions.size > 0.1, "\(captions)")

    let refused = try await MPIRun.kinship(
      ["weights", "export", run.path, "--form", "hugging_face", "-o", scene.folder.path("refused")], ranks: nil)
    #expect(refused.status == 65 && refused.errors.contains("write it with --form open_clip"), "\(refused)")
    #expect(!FileManager.default.fileExists(atPath: scene.folder.path("refused")))
  }

  /// Step 3 has masks, step 6 is the last before the cut, step 9 has the cut model.
  @Test func goesOnAcrossTheCut() async throws {
    let every = ["checkpoint.every=3", "checkpoint.keep=all", Self.prune]
    let straight = try await scene.train("straight", every, ranks: 2)
    for step in [3, 6, 9] {
      let name = "from\(step)"
      let rest = try await scene.train(name, every, ["--resume", scene.checkpoint("straight", step).path], ranks: 2)
      #expect(rest == Array(straight.dropFirst(step)), "\(step)")
      #expect(try scene.parts(name, 10) == scene.parts("straight", 10), "\(step)")
    }
    let other = try await scene.run(
      ["name=other", "prune=none"], ["--resume", scene.checkpoint("straight", 9).path], ranks: 1)
    #expect(other.status == 65, "\(other)")
    for (values, step, words) in [
      ("prune={sparsity: 0.4, step: 2}", 3, "has masks after step 3, and prune.step 2 lies before it"),
      ("prune={sparsity: 0.4, step: 9}", 9, "the model expects"),
      (
        "prune={sparsity: 0.4, step: 6, towers: text}", 3,
        "prune.visual.heads.0.moment1 belongs to no mask of this run"
      ),
    ] {
      let run = try await scene.run(
        ["name=other", values], ["--resume", scene.checkpoint("straight", step).path], ranks: 2)
      #expect(run.status == 65 && run.errors.contains(words), "\(run)")
    }
  }

  /// Masked parameters travel as they are, whatever the way of the cut model's, and checkpoints and headers say so.
  @Test(.bfloat16Products) func saysHowMaskedWeightsTravel() async throws {
    let values = [
      Self.prune, "precision=bf16", "reduce.wire=bf16", "checkpoint.every=3", "checkpoint.keep=all",
    ]
    let whole = try await scene.run(["name=whole"] + values, ranks: 2)
    #expect(whole.status == 0, "\(whole)")
    let (masked, cut) = ("gradients in bf16", "gradients in bf16, parameters of products in bf16")
    for (step, text) in [(3, masked), (6, masked), (9, cut)] {
      let record = try Checkpoint.open(scene.checkpoint("whole", step).path).manifest.record
      #expect(record.route == text, "\(step)")
    }
    #expect(whole.output.contains(masked) && !whole.output.contains(cut), "\(whole)")
    let rest = try await scene.run(
      ["name=rest"] + values, ["--resume", scene.checkpoint("whole", 9).path], ranks: 2)
    #expect(rest.status == 0 && rest.output.contains(cut), "\(rest)")
    #expect(!rest.output.contains("ranks exchanged"), "\(rest)")
  }

  /// The next stage starts from the cut model and counts its sparsity from the first one.
  @Test func theNextStage() async throws {
    try await scene.train("first", ["prune={sparsity: 0.2, step: 6, ramp: 0, learning_rate: 1.2}"], ranks: 2)
    let folder = scene.runFolder("first").path
    let sizes = "model={file: \"\(folder)/\(ModelFiles.config)\"}"
    try await scene.train(
      "second",
      [
        sizes, "init.inherit=\"\(folder)\"",
        "evaluate={every: 5, evaluations: [{kind: retrieval, dataset: \"\(scene.dataset)\"}]}",
        "prune={start_sparsity: 0.2, sparsity: 0.5, step: 6, ramp: 2, learning_rate: 1.2}",
      ], ranks: 2)
    let (first, second) = (try config("first"), try config("second"))
    #expect(second.vision.blocks?.fullHidden == 128 && second.vision.width < first.vision.width)
    let already = try #require(try scene.log("second", "step").first?.pruning?.expected)
    let layout = MaskLayout(first, towers: .both)
    #expect(abs(already - Masks(layout).sparsity.value) < 1e-6)
    let enough = try await scene.run(
      ["name=third", sizes, "prune={sparsity: 0.01, step: 6}"], ["--dry-run"], ranks: 1)
    #expect(enough.status == 65 && enough.errors.contains("of the model has already been removed"), "\(enough)")
  }
}
