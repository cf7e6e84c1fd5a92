import Foundation
import TestSupport
import Testing

/// Runs whose products read bfloat16, against the same in fp32.
@Suite struct PrecisionTests {
  @Test(.bfloat16Products) func lossesStayCloseAndRanksAgree() async throws {
    let scene = try await TrainScene()
    let exact = try await scene.train("exact", ["steps=6"], ranks: 1)
    for ranks in [1, 2] {
      let name = "rounded\(ranks)"
      let run = try await scene.run(["name=\(name)", "steps=6", "precision=bf16"], ranks: ranks)
      try #require(run.status == 0, "\(run)")
      let losses = try scene.losses(name)
      #expect(run.output.contains("the towers' products through oneDNN"), "\(run)")
      #expect(difference(losses, exact) <= 2e-2, "\(losses), \(exact)")
      #expect(losses != exact)
    }
    // The very bits again, from the middle on.
    let stopped = try await scene.run(
      ["name=again", "steps=6", "precision=bf16", "checkpoint.every=3"], ranks: 1)
    try #require(stopped.status == 0, "\(stopped)")
    let resumed = try await scene.run(
      ["name=again", "steps=6", "precision=bf16"], ["--resume", scene.checkpoint("again", 3).path], ranks: 1)
    try #require(resumed.status == 0, "\(resumed)")
    #expect(try scene.losses("again") == scene.losses("rounded1"))
  }

  /// The program says so, and rounds nothing.
  @Test(arguments: [1, 2]) func anOlderProcessorComputesInFP32(ranks: Int) async throws {
    let scene = try await TrainScene()
    let exact = try await scene.train("exact", ["steps=6"], ranks: 1)
    let run = try await scene.run(
      ["name=older", "steps=6", "precision=bf16"], ranks: ranks, environment: OlderProcessor.environment)
    #expect(run.status == 0 && run.output.contains("all ranks compute in fp32"), "\(run)")
    #expect(difference(try scene.losses("older"), exact) <= 1e-5)
  }

  @Test func whatIsNoPrecisionIsRefused() async throws {
    let scene = try await TrainScene()
    let run = try await scene.run(["name=half", "steps=1", "precision=fp16"], ranks: nil)
    #expect(run.status == 64 && run.errors.contains("precision"), "\(run)")
    #expect(run.errors.contains("fp32") && run.errors.contains("bf16"), "\(run)")
  }

  @Test(.bfloat16Products) func aTeacherMayRoundToo() async throws {
    let scene = try await CacheScene()
    let rounded = ["teacher.precision=bf16"]
    try await scene.precompute("on1", rounded, ranks: 1)
    try await scene.precompute("on2", rounded, ranks: 2)
    #expect(try scene.files("on1") == scene.files("on2"))
    let live = try await scene.teacher.train("live", ["data.views=2"] + rounded)
    let cached = try await scene.train("cached", from: "on1", rounded, ranks: 2)
    #expect(difference(cached, live) < 1e-5)
    // A cache is of one precision.
    let other = try await scene.scene.run(scene.settings("on1"), ranks: 1)
    #expect(other.status == 65, "\(other)")
    #expect(other.errors.contains("its teacher's precision is bf16, the run asks for fp32"), "\(other)")
    #expect(difference(live, try await scene.teacher.train("exact", ["data.views=2"])) > 1e-7)
  }

  @Test func aTeacherOnAnOlderProcessor() async throws {
    let scene = try await CacheScene()
    let rounded = ["teacher.precision=bf16"]
    let older = try await MPIRun.kinship(
      ["precompute", scene.scene.runFile] + (scene.settings("older") + rounded).flatMap { ["--set", $0] }, ranks: 1,
      environment: OlderProcessor.environment)
    #expect(older.status == 0 && older.output.contains("all ranks compute in fp32"), "\(older)")
    // The cache is one of fp32.
    let exact = try await scene.scene.run(scene.settings("older"), ranks: 1)
    #expect(exact.status == 0, "\(exact)")
    // On any processor a teacher that is sharded over the ranks cannot round.
    let sharded = try await scene.run("sharded", rounded + ["teacher.placement=sharded"], ranks: 2)
    #expect(sharded.status == 64 && sharded.errors.contains("teacher.precision"), "\(sharded)")
  }
}
