import Dist
import Foundation
import TestSupport
import Testing

/// Runs that make activations again in backward: the same bits, in less memory, as predicted.
@Suite struct RecomputeRunTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  @Test(arguments: [
    [], ["batch.micro_batch_size=2", "optimizer.clip_norm=0.5"],
    [
      "model={embed_dim: 20, vision_cfg: {image_size: 32, layers: [1, 1, 2, 1], width: 8, head_width: 32}, "
        + "text_cfg: {context_length: 8, vocab_size: 0, width: 32, heads: 2, layers: 2}}", "model.sync_bn=true",
      "batch.micro_batch_size=3",
    ], ["prune={sparsity: 0.4, step: 3, ramp: 0, learning_rate: 1.2}"],
  ])
  func theSameBits(values: [String]) async throws { try await compare(values) }

  @Test(.bfloat16Products) func theSameBitsOfRoundedProducts() async throws { try await compare(["precision=bf16"]) }

  private func compare(_ values: [String]) async throws {
    let values = values + ["steps=4"]
    let kept = try await scene.train("none", values, ranks: 2)
    for choice in ["cheap", "blocks"] {
      let run = try await scene.run(["name=\(choice)", "batch.activation_checkpointing=\(choice)"] + values, ranks: 2)
      try #require(run.status == 0, "\(run)")
      #expect(run.output.contains("\nrecompute \(choice): "), "\(run)")
      #expect(try scene.losses(choice) == kept)
      #expect(try scene.parts(choice, 4) == scene.parts("none", 4))
      let saved = try String(contentsOf: scene.runFolder(choice).appending(path: "run.yaml"), encoding: .utf8)
      #expect(saved.contains("activation_checkpointing: \(choice)"), "\(saved)")
    }
  }

  @Test func whatIsNoChoiceIsRefused() async throws {
    let run = try await scene.run(["batch.activation_checkpointing=all"], ranks: nil)
    #expect(run.status == 64 && run.errors.contains("activation_checkpointing"), "\(run)")
    #expect(run.errors.contains("none") && run.errors.contains("cheap") && run.errors.contains("blocks"), "\(run)")
  }

  @Test func memoryIsAsPredicted() async throws {
    let sizes = [
      "model={embed_dim: 64, vision_cfg: {image_size: 96, patch_size: 6, width: 192, layers: 6}, "
        + "text_cfg: {context_length: 16, vocab_size: 0, width: 128, heads: 2, layers: 4}}",
      "batch.global=14", "steps=2", "log.tensorboard=false",
    ]
    var peaks: [(predicted: Double, measured: Double)] = []
    for choice in ["none", "cheap", "blocks"] {
      let run = try await scene.run(["name=\(choice)", "batch.activation_checkpointing=\(choice)"] + sizes, ranks: 1)
      try #require(run.status == 0, "\(run)")
      let found = try #require(
        run.output.firstMatch(of: /predicted ([0-9.]+) MiB a rank and .* measured ([0-9.]+) MiB/), "\(run)")
      let (predicted, measured) = (try #require(Double(found.1)), try #require(Double(found.2)))
      #expect(abs(predicted / measured - 1) < 0.1, "\(run)")
      peaks.append((predicted, measured))
    }
    // The resident memory of equal runs differs by some pages of the allocator; the savings are many times that.
    for (more, less) in zip(peaks, peaks.dropFirst()) {
      #expect(more.predicted - less.predicted > 50, "\(peaks)")
      #expect(more.measured - less.measured > 0.5 * (more.predicted - less.predicted), "\(peaks)")
    }
  }
}
