import Dist
import Foundation
import TestSupport
import Testing

/// Gradients and parameters that travel while the towers compute, in real jobs: when they travel makes no difference to
/// any bit.
@Suite struct OverlapTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  /// Buckets of about 500 numbers: most parameters travel alone.
  private static let small = "reduce.bucket=0.002"

  @Test(arguments: [
    (2, []), (3, ["batch.micro_batch_size=2", "optimizer.clip_norm=0.5"]),
    (
      2,
      [
        "model={embed_dim: 20, vision_cfg: {image_size: 32, layers: [1, 1, 1, 1], width: 8, head_width: 32}, "
          + "text_cfg: {context_length: 8, vocab_size: 0, width: 32, heads: 2, layers: 1}}", "model.sync_bn=true",
        "steps=4",
      ]
    ),
    (2, ["prune={sparsity: 0.4, step: 6, ramp: 0, learning_rate: 1.2}"]),
  ])
  func theSameBits(ranks: Int, values: [String]) async throws {
    let alone = try await scene.train("alone", values, ranks: 1)
    let values = values + [Self.small]
    let apart = try await scene.train("apart", values + ["reduce.overlap=false"], ranks: ranks)
    let together = try await scene.train("together", values, ranks: ranks)
    #expect(together == apart)
    #expect(try scene.parts("together", alone.count) == scene.parts("apart", alone.count))
    #expect(difference(together, alone) < 1e-5, "\(together), alone \(alone)")
  }

  /// Checkpoints know of no buckets: a run goes on with the same bits, with overlap or without, and with other buckets.
  @Test func goesOnWithOtherBuckets() async throws {
    let straight = try await scene.train("straight", ["checkpoint.every=5", Self.small], ranks: 3)
    let from = ["--resume", scene.checkpoint("straight", 5).path]
    let rest = try await scene.train("rest", [Self.small, "reduce.overlap=false"], from, ranks: 3)
    #expect(rest == Array(straight.dropFirst(5)))
    #expect(try scene.parts("rest", 10) == scene.parts("straight", 10))
    let other = try await scene.train("other", ["reduce.bucket=4"], from, ranks: 3)
    #expect(difference(other, rest) < 1e-5)
  }
}
