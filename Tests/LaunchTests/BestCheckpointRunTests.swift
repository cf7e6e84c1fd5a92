import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Runs that keep their best checkpoint, and end when none is better.
@Suite struct BestCheckpointRunTests {
  let scene: TrainScene

  init() async throws { scene = try await TrainScene() }

  private func evaluate(_ settings: String) -> String {
    let evaluations = "[{kind: loss, dataset: \"\(scene.dataset)\"}, {kind: retrieval, dataset: \"\(scene.dataset)\"}]"
    return "evaluate={\(settings), evaluations: \(evaluations)}"
  }

  private func checkpoints(_ name: String) -> String { scene.runFolder(name).path + "/checkpoints" }

  private func names(_ name: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: checkpoints(name)).sorted()
  }

  /// Nothing is learned at this rate: all figures are equal, so the first round is the best.
  @Test func patienceGoesOnThroughAStop() async throws {
    let folder = checkpoints("still")
    let still = ["name=still", "optimizer.learning_rate=1e-30", "checkpoint={every: 1, keep: 1}"]
    let set = still + [evaluate("every: 2, keep_best: loss, patience: 3")]
    let begun = try await scene.run(set + ["steps=4"], ranks: 2)
    try #require(begun.status == 0, "\(begun)")
    #expect(begun.output.contains("keeps the best checkpoint by loss corpus/loss, lower is better; ends after 3 eval"))
    #expect(begun.output.contains("loss corpus: the objective over 3 batches of 7 pairs, without the last 2"))
    #expect(begun.output.contains("step 2  best so far: loss corpus/loss "), "\(begun)")
    #expect(try names("still") == ["best", "latest", "step-00000002", "step-00000004"])
    let best = try #require(BestFigure.marked(in: folder))
    #expect(best.metric == "loss corpus/loss" && best.step == 2 && best.value > 0)

    // As after a kill between the evaluation and the mark.
    try FileManager.default.removeItem(atPath: folder + "/best")
    let ended = try await scene.run(set + ["steps=20"], ["--resume", "auto"], ranks: 2)
    try #require(ended.status == 0, "\(ended)")
    #expect(ended.output.contains("ends after step 8 of 20: 3 evaluations without a new best (evaluate.patience)"))
    #expect(ended.output.contains("still/best, of step 2: loss corpus/loss "), "\(ended)")
    #expect(try names("still") == ["best", "latest", "step-00000002", "step-00000008"])
    #expect(BestFigure.marked(in: folder) == best)
    #expect(try scene.log("still", "evaluation").map(\.step) == [2, 2, 4, 4, 6, 6, 8, 8])
    #expect(try scene.log("still", "best").map(\.step) == [2, 2])

    // It has ended, until it is given more patience.
    let again = try await scene.run(set + ["steps=20"], ["--resume", "latest"], ranks: nil)
    #expect(again.status == 0 && again.output.contains("ends after step 8 of 20"), "\(again)")
    let more = still + [evaluate("every: 2, keep_best: loss, patience: 4")]
    let longer = try await scene.run(more + ["steps=20"], ["--resume", "latest"], ranks: 2)
    #expect(longer.status == 0 && longer.output.contains("ends after step 10 of 20: 4 evaluations"), "\(longer)")
    #expect(BestFigure.marked(in: folder) == best)

    let json = scene.folder.path("figures.json")
    let figures = try await MPIRun.kinship(
      [
        "evaluate", "retrieval", "--dataset", scene.dataset, "--checkpoint",
        scene.runFolder("still").appending(path: "best").path, "--json", json,
      ], ranks: nil)
    try #require(figures.status == 0, "\(figures)")
    #expect(try String(contentsOfFile: json, encoding: .utf8).contains("\"step\" : 2"))
  }

  /// The best round is saved where no checkpoint is due, and the run's folder names it.
  @Test func theBestIsSaved() async throws {
    let set = [
      "checkpoint.every=none", evaluate("every: 3, keep_best: loss corpus/loss"), "optimizer.learning_rate=5e-3",
    ]
    try await scene.train("tiny", set, ranks: 2)
    let rounds = try scene.log("tiny", "evaluation").filter { $0.evaluation == "loss corpus" }
    #expect(rounds.map(\.step) == [3, 6, 9, 10])
    let lowest = try #require(rounds.min { $0.figures?["loss"] ?? .nan < $1.figures?["loss"] ?? .nan })
    let best = try #require(BestFigure.marked(in: checkpoints("tiny")))
    #expect(best.step == lowest.step && best.value == lowest.figures?["loss"])
    #expect(TrainedModel.checkpoint(scene.runFolder("tiny").path + "/best").hasSuffix("tiny/checkpoints/best"))
    #expect(try Checkpoint.open(checkpoints("tiny") + "/best").manifest.record.step == best.step)

    // The card of a model says what the log says of it, and nothing about later steps.
    let card = try #require(RunFolder.history(of: scene.runFolder("tiny").path + "/best", upTo: best.step))
    #expect(card.evaluations.count == 2 && !card.facts.isEmpty)
    #expect(card.evaluations.allSatisfy { $0.rounds.map(\.step) == [3, 6, 9, 10].filter { $0 <= best.step } })
    let first = try #require(RunFolder.history(of: scene.checkpoint("tiny", best.step).path, upTo: 2))
    #expect(first.evaluations.isEmpty && first.seconds == 0)

    let from = "init.from=\"\(scene.runFolder("tiny").path)/best\""
    let next = try await scene.run(["name=next", from], ["--dry-run"], ranks: nil)
    #expect(next.status == 0 && !next.output.contains("is read only when the run starts"), "\(next)")
    try FileManager.default.removeItem(atPath: checkpoints("tiny") + "/best")
    for words in [["merge", "-o", "none.h5"], ["weights", "export", "-o", "none"]] {
      let none = try await MPIRun.kinship(words + [scene.runFolder("tiny").path + "/best"], ranks: nil)
      #expect(none.status == 74 && none.errors.contains("; a run keeps its best checkpoint if"), "\(none)")
    }

    let wrong = try await scene.run(["name=wrong", evaluate("keep_best: R@1")], ranks: 2)
    #expect(wrong.status == 64, "\(wrong)")
    #expect(wrong.errors.contains("evaluate.keep_best: expected one figure of the run's evaluations, found \"R@1\""))
    #expect(wrong.errors.contains("loss corpus/loss, retrieval corpus/i2t R@1, retrieval corpus/i2t R@5"), "\(wrong)")
    #expect(!FileManager.default.fileExists(atPath: scene.runFolder("wrong").path))
  }
}

/// The run's own objective over a held-out dataset.
@Suite struct HeldOutLossTests {
  let scene: CacheScene

  init() async throws { scene = try await CacheScene() }

  private var evaluate: String {
    "evaluate={every: 3, evaluations: [{kind: loss, dataset: \"\(scene.scene.dataset)\"}]}"
  }

  /// Values with which nothing is learned in an epoch of three steps.
  private var still: [String] { ["steps=3", "optimizer.learning_rate=1e-30", evaluate] }

  private func loss(_ name: String) throws -> Double {
    let lines = try scene.scene.log(name, "evaluation")
    #expect(lines.map(\.step) == [3] && lines.map(\.evaluation) == ["loss corpus"])
    return try #require(lines.first?.figures?["loss"])
  }

  /// Without augmentation, the batches of an epoch are those of the held-out loss: the mean of its steps is the value.
  @Test func isTheMeanOfAnEpochOnAnyNumberOfRanks() async throws {
    for ranks in [1, 2, 3] {
      let steps = try await scene.teacher.train("on\(ranks)", still + ["image.crop=center"], ranks: ranks)
      let mean = steps.reduce(0, +) / Double(steps.count)
      let held = try loss("on\(ranks)")
      #expect(steps.count == 3 && difference([held], [mean]) < 1e-5, "\(ranks): \(held), \(steps)")
    }
    let one = try loss("on1")
    let others = [try loss("on2"), try loss("on3")]
    #expect(difference(others, [one, one]) < 1e-5)
  }

  /// Random crops of the training images change nothing, and neither does a teacher's cache.
  @Test func takesCentralCropsLiveAndFromACache() async throws {
    let live = try await scene.teacher.train("live", still + ["data.views=2"], ranks: 2)
    try await scene.precompute("held", [evaluate], ranks: 2)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: scene.path("held")).sorted() == ["corpus", "evaluation"])
    let cached = try await scene.train("cached", from: "held", still, ranks: 2)
    #expect(difference(cached, live) < 1e-5)
    #expect(difference([try loss("cached")], [try loss("live")]) < 1e-5)
    try await scene.teacher.train("center", still + ["image.crop=center"])
    #expect(difference([try loss("live")], [try loss("center")]) < 1e-5)
    #expect(abs(try loss("live") / (live.reduce(0, +) / 3) - 1) > 1e-5, "the steps saw other crops")

    try FileManager.default.removeItem(atPath: scene.path("held") + "/evaluation")
    let lost = try await scene.scene.run(["name=lost"] + scene.settings("held") + still, ranks: nil)
    #expect(lost.status != 0 && lost.errors.contains("held/evaluation/corpus"), "\(lost)")
  }
}
