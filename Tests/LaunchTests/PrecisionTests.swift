import Foundation
import TestSupport
import Testing

/// Runs whose products read bfloat16, against the same in fp32.
@Suite(.serialized, .timeLimit(.minutes(2)))
struct PrecisionTests {
  @Test func lossesStayCloseAndRanksAgree() async throws {
    let scene = try await TrainScene()
    let exact = try await scene.train("exact", ["steps=6"], ranks: 1)
    for ranks in [1, 2] {
      let name = "rounded\(ranks)"
      let run = try await scene.run(["name=\(name)", "steps=6", "precision=bf16"], ranks: ranks)
      try #require(run.status == 0, "\(run)")
      let losses = try scene.losses(name)
      if run.output.contains("all ranks compute in fp32") {
        // A processor without such products: said, and then nothing is rounded.
        #expect(difference(losses, exact) <= 1e-5)
      } else {
        #expect(run.output.contains("the towers' products through oneDNN"), "\(run)")
        #expect(difference(losses, exact) <= 2e-2, "\(losses), \(exact)")
        #expect(losses != exact)
      }
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

  @Test func whatIsNoPrecisionIsRefused() async throws {
    let scene = try await TrainScene()
    let run = try await scene.run(["name=half", "steps=1", "precision=fp16"], ranks: nil)
    #expect(run.status == 64 && run.errors.contains("precision"), "\(run)")
    #expect(run.errors.contains("fp32") && run.errors.contains("bf16"), "\(run)")
  }

  @Test func aTeacherMayRoundToo() async throws {
    let scene = try await CacheScene()
    let rounded = ["teacher.precision=bf16"]
    let said = try await scene.precompute("on1", rounded, ranks: 1)
    try await scene.precompute("on2", rounded, ranks: 2)
    #expect(try scene.files("on1") == scene.files("on2"))
    let live = try await scene.teacher.train("live", ["data.views=2"] + rounded)
    let cached = try await scene.train("cached", from: "on1", rounded, ranks: 2)
    #expect(difference(cached, live) < 1e-5)
    // A cache is of one precision; a processor without such products has made one of fp32, and said so.
    let other = try await scene.scene.run(scene.settings("on1"), ranks: 1)
    if said.output.contains("all ranks compute in fp32") {
      #expect(other.status == 0, "\(other)")
    } else {
      #expect(other.status == 65, "\(other)")
      #expect(other.errors.contains("its teacher's precision is bf16, the run asks for fp32"), "\(other)")
      #expect(difference(live, try await scene.teacher.train("exact", ["data.views=2"])) > 1e-7)
    }
    let spread = try await scene.run("on3", rounded + ["teacher.placement=spread"], ranks: 2)
    #expect(spread.status == 64 && spread.errors.contains("teacher.precision"), "\(spread)")
  }
}
