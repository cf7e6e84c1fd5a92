import Foundation
import TestSupport
import Testing

@testable import Dist
@testable import Launch
@testable import Model

/// Pins the text of each event in `log.jsonl`, and checks that the reader finds what the writer has written.
@Suite struct LogEventTests {
  /// Writes one event of each kind with the run's own writer.
  private func write(to file: URL) throws {
    let log = try RunLog(
      file: file, console: nil, every: 1, start: .init(step: 0, ranks: 2, changes: ["seed: 1, was 0"]),
      maximum: { _ in })
    try log.record([RunHeader.Fact(name: "model", text: "4 M parameters; from runs/a")], at: 0)
    var report = RunLogTests.report(5, losses: [2.5, 0.25])
    report.outcome.report.notes = ["few"]
    report.outcome.report.anchors = [
      .init(name: "image", divergenceMean: 0.25, divergenceDeviation: 0.125, weightMean: 1, weightDeviation: 0.5)
    ]
    report.outcome.report.gradients = [.init(name: "clip", norm: 0.5), .init(name: "affinity", norm: .nan)]
    report.outcome.gradientNorm = .nan
    report.outcome.pruning = MaskReport(expected: 0.125, target: 0.5, multipliers: [0.25, -1.5], term: 0.0625)
    report.teacherSeconds = 0.125
    try log.record(report)
    try log.record(evaluation: "retrieval", at: 5, [("i2t R@1", 0.125), ("low", -.infinity), ("high", .infinity)])
    try log.record(BestFigure(metric: "retrieval/i2t R@1", step: 5, value: 0.125))
    try log.record(
      BackgroundCheckpoints.Saved(
        step: 5, folder: "runs/a/checkpoints/step-00000005", notRemoved: [], blocked: 0.5, seconds: 2))
    try log.record(
      Outcome(memory: (predicted: 1 << 20, measured: 2 << 20), step: (predicted: 0.125, measured: 0.25)), at: 5)
  }

  /// The names on disk do not change when the program's own names do.
  @Test func theTextOfEachEvent() throws {
    let folder = try TemporaryFolder()
    let file = folder.url.appending(path: RunLog.fileName)
    try write(to: file)
    let time = #/"time":"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"/#
    let written = try String(contentsOf: file, encoding: .utf8).replacing(time, with: "\"time\":\"now\"")
    let expected = """
      {"changes":["seed: 1, was 0"],"event":"start","ranks":2,"step":0,"time":"now","version":"\(Release.version)"}
      {"event":"header","facts":[{"name":"model","text":"4 M parameters; from runs/a"}],"step":0,"time":"now"}
      {"event":"note","note":"few","step":5,"time":"now"}
      {"anchors":{"image":{"divergence_deviation":0.125,"divergence_mean":0.25,"weight_deviation":0.5,\
      "weight_mean":1}},"data_wait":0.02,"epoch":0.1,"event":"step","gradient_norm":"nan","logit_scale":14.2857,\
      "logit_scale_clamped":true,"loss":2.75,"loss_mean":2.75,\
      "pruning":{"expected":0.125,"multipliers":[0.25,-1.5],"target":0.5},"rate":0.0005,"received_bytes":4096,\
      "samples_per_second":128,"seconds_left":47.5,"step":5,"steps":100,"teacher_share":0.25,\
      "term_gradients":{"affinity":"nan","clip":0.5},\
      "term_means":{"affinity":0.25,"clip":2.5},"term_weights":{"affinity":1,"clip":1},\
      "terms":{"affinity":0.25,"clip":2.5},"time":"now"}
      {"evaluation":"retrieval","event":"evaluation","figures":{"high":"inf","i2t R@1":0.125,"low":"-inf"},\
      "step":5,"time":"now"}
      {"event":"best","metric":"retrieval/i2t R@1","step":5,"time":"now","value":0.125}
      {"blocked_seconds":0.5,"event":"checkpoint","folder":"runs/a/checkpoints/step-00000005","step":5,"time":"now",\
      "written_seconds":2}
      {"event":"outcome","memory_measured":2097152,"memory_predicted":1048576,"step":5,\
      "step_seconds_measured":0.25,"step_seconds_predicted":0.125,"time":"now"}

      """
    let (lines, texts) = (written.split(separator: "\n"), expected.split(separator: "\n"))
    for (line, text) in zip(lines, texts) { #expect(line == text) }
    #expect(lines.count == texts.count && written.hasSuffix("}\n"))
    for event in LogEvent.allCases { #expect(written.contains("\"event\":\"\(event.rawValue)\""), "\(event)") }
  }

  @Test func aDeviceIsNoLog() throws {
    let folder = try TemporaryFolder()
    let file = folder.url.appending(path: RunLog.fileName)
    try FileManager.default.createSymbolicLink(atPath: file.path, withDestinationPath: "/dev/zero")
    let error = #expect(throws: UserError.self) {
      try RunLog(
        file: file, console: nil, every: 1, start: .init(step: 0, ranks: 1, changes: []), maximum: { _ in })
    }
    #expect(error?.status == .inputOutput && error?.reason.contains("it is not a file but a device") == true)
  }

  /// Fields without a value are left out instead of being null.
  @Test func aStepWithoutOptionalFields() throws {
    let folder = try TemporaryFolder()
    let file = folder.url.appending(path: RunLog.fileName)
    let log = try RunLog(
      file: file, console: nil, every: 1, start: .init(step: 0, ranks: 1, changes: []), maximum: { _ in })
    try log.record(RunLogTests.report(1, losses: [1]))
    #expect(
      try RunLogTests.json(file)[1].keys.sorted() == [
        "data_wait", "epoch", "event", "gradient_norm", "logit_scale", "logit_scale_clamped", "loss", "loss_mean",
        "rate", "received_bytes", "samples_per_second", "seconds_left", "step", "steps", "term_means",
        "term_weights", "terms", "time",
      ])
  }

  @Test func whatIsWrittenIsRead() throws {
    let folder = try TemporaryFolder()
    let file = folder.url.appending(path: RunLog.fileName)
    try write(to: file)
    let history = try LogReader.read(file, run: "runs/a")
    #expect(history.lines == 8 && history.unreadable == 0 && history.firstUnreadable == nil && !history.isTorn)
    #expect(history.superseded == 0 && history.lastStep == 5 && history.seconds >= 0 && history.lastTime != nil)

    #expect(history.starts.count == 1)
    let start = try #require(history.starts.first)
    #expect(start.step == 0 && start.ranks == 2 && start.version == Release.version)
    #expect(start.changes == ["seed: 1, was 0"] && start.time?.hasSuffix("Z") == true)
    #expect(history.facts == [.init(name: "model", text: "4 M parameters; from runs/a")])
    #expect(history.notes.map(\.step) == [5] && history.notes.map(\.note) == ["few"])

    let figures: [(StepTable.Figure, Double)] = [
      (.loss, 2.75), (.rate, 5e-4), (.logitScale, 14.2857), (.samplesPerSecond, 128), (.dataWait, 0.02),
      (.teacherShare, 0.25), (.receivedBytes, 4096), (.term("clip"), 2.5), (.term("affinity"), 0.25),
      (.termWeight("clip"), 1), (.termWeight("affinity"), 1), (.divergence("image"), 0.25),
      (.divergenceDeviation("image"), 0.125), (.anchorWeight("image"), 1), (.anchorWeightDeviation("image"), 0.5),
      (.prunedExpected, 0.125), (.prunedTarget, 0.5), (.termGradient("clip"), 0.5),
    ]
    #expect(history.table.steps == [5])
    for (figure, value) in figures { #expect(history.table[figure]?.values[0] == value, "\(figure)") }
    let notNumbers = [StepTable.Figure.gradientNorm, .termGradient("affinity")]
    for figure in notNumbers { #expect(history.table[figure]?.values[0]?.isNaN == true) }
    #expect(Set(history.table.figures) == Set(figures.map(\.0) + notNumbers))
    #expect(history.plannedSteps == 100 && history.epoch == 0.1)

    #expect(history.evaluations.map(\.name) == ["retrieval"])
    let rounds = try #require(history.evaluations.first?.rounds)
    try #require(rounds.map(\.step) == [5])
    #expect(rounds[0].figures == ["i2t R@1": 0.125, "low": -Double.infinity, "high": Double.infinity])

    #expect(history.best?.step == 5 && history.best?.metric == "retrieval/i2t R@1" && history.best?.value == 0.125)
    #expect(history.checkpoints.count == 1)
    let checkpoint = try #require(history.checkpoints.first)
    #expect(checkpoint.step == 5 && checkpoint.folder == "step-00000005")
    #expect(checkpoint.blockedSeconds == 0.5 && checkpoint.writtenSeconds == 2)

    let outcome = try #require(history.outcome)
    #expect(outcome.memory.predicted == 1_048_576 && outcome.memory.measured == 2_097_152)
    #expect(outcome.stepSeconds.predicted == 0.125 && outcome.stepSeconds.measured == 0.25)
  }

  /// A start that was interrupted during its evaluations does not count those of an earlier start.
  @Test func evaluationsOfOneStartAreCounted() throws {
    let folder = try TemporaryFolder()
    let file = folder.url.appending(path: RunLog.fileName)
    func start(at step: Int) throws -> RunLog {
      try RunLog(
        file: file, console: nil, every: 1, start: .init(step: step, ranks: 1, changes: []), maximum: { _ in })
    }
    let first = try start(at: 0)
    try first.record(evaluation: "a", at: 4, [("top-1", 0.5)])
    try first.record(evaluation: "a", at: 8, [("top-1", 0.5)])
    #expect(try first.has(evaluations: 1, at: 4))
    #expect(try !first.has(evaluations: 2, at: 4))
    let second = try start(at: 4)
    try second.record(evaluation: "b", at: 4, [("top-1", 0.5)])
    #expect(try !second.has(evaluations: 2, at: 4))
    #expect(try second.has(evaluations: 1, at: 8))
    try second.record(evaluation: "a", at: 4, [("top-1", 0.5)])
    #expect(try second.has(evaluations: 2, at: 4))
    #expect(try second.has(evaluations: 0, at: 99))
  }
}
