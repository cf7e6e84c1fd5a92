import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch
@testable import Model

@Suite struct RunLogTests {
  static func report(_ step: Int, losses: [Double], seconds: Double = 0.5, wait: Double = 0.01) -> StepReport {
    StepReport(
      step: step, steps: 100, epoch: Double(step) / 50,
      outcome: StepOutcome(
        report: ObjectiveReport(
          total: losses.reduce(0, +),
          terms: zip(["clip", "affinity"], losses).map { .init(name: $0, weight: 1, value: $1) }),
        gradientNorm: 1.23456, logitScale: 14.2857, clamped: step > 3, received: 4096),
      learningRate: 5e-4, samples: 64, seconds: seconds, dataSeconds: wait)
  }

  static func json(_ file: URL) throws -> [[String: Any]] {
    try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map {
      try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  @Test func oneLineEveryNStepsInBothForms() throws {
    let folder = try TemporaryFolder()
    let file = folder.url.appending(path: "log.jsonl")
    let screen = folder.url.appending(path: "screen")
    try Data().write(to: screen)
    let log = try RunLog(
      file: file, console: .changing(screen.path), every: 2,
      start: .init(step: 0, ranks: 3, changes: []), maximum: { $0 = $0.map { $0 * 2 } })
    try log.record(Self.report(1, losses: [4]))
    #expect(try Data(contentsOf: screen).isEmpty)
    try log.record(Self.report(2, losses: [3]))
    try log.record(Self.report(3, losses: [2]))
    try log.record(Self.report(4, losses: [1]))
    try log.record(evaluation: "retrieval", at: 4, [("image to text R@1", 0.125), ("text to image R@1", 0.5)])
    try log.record(Self.report(100, losses: [0.5], seconds: 0))
    #expect(
      try String(contentsOf: screen, encoding: .utf8) == """
        step 2/100  epoch 0.04  loss 3.0000 (3.5000)  rate 0.0005  scale 14.29  norm 1.235  \
        samples/s 64  wait 2%  left 1m38s
        step 4/100  epoch 0.08  loss 1.0000 (1.5000)  rate 0.0005  scale 14.29 (held)  norm 1.235  \
        samples/s 64  wait 2%  left 1m36s
        step 4  retrieval  image to text R@1 0.125  text to image R@1 0.5
        step 100/100  epoch 2.00  loss 0.5000 (0.5000)  rate 0.0005  scale 14.29 (held)  norm 1.235  \
        samples/s 0  wait 0%  left 0s

        """)
    let lines = try Self.json(file)
    #expect(lines.map { $0["event"] as? String } == ["start", "step", "step", "evaluation", "step"])
    #expect(lines[0]["ranks"] as? Int == 3)
    #expect(
      lines[1]["step"] as? Int == 2 && lines[1]["loss"] as? Double == 3 && lines[1]["loss_mean"] as? Double == 3.5)
    #expect(lines[1]["terms"] as? [String: Double] == ["clip": 3])
    #expect(lines[1]["samples_per_second"] as? Double == 64 && lines[1]["data_wait"] as? Double == 0.02)
    #expect(lines[1]["seconds_left"] as? Double == 98 && lines[2]["logit_scale_clamped"] as? Bool == true)
    #expect(lines[3]["figures"] as? [String: Double] == ["image to text R@1": 0.125, "text to image R@1": 0.5])
  }

  /// The teacher's share is that of the slowest rank over the steps since the last line. Without a teacher it is left
  /// out.
  @Test func howMuchOfTheTimeTheTeacherTakes() throws {
    let folder = try TemporaryFolder()
    let file = folder.url.appending(path: "log.jsonl")
    let screen = folder.url.appending(path: "screen")
    try Data().write(to: screen)
    let log = try RunLog(
      file: file, console: .changing(screen.path), every: 2,
      start: .init(step: 0, ranks: 2, changes: []), maximum: { $0[2] *= 2 })
    for (step, seconds) in [(1, 0.25), (2, 0.5), (3, nil), (4, nil)] as [(Int, Double?)] {
      var report = Self.report(step, losses: [1], seconds: 2)
      report.teacherSeconds = seconds
      try log.record(report)
    }
    let lines = try Self.json(file)
    #expect(lines[1]["teacher_share"] as? Double == 0.375 && lines[2]["teacher_share"] == nil)
    let text = try String(contentsOf: screen, encoding: .utf8).split(separator: "\n")
    #expect(text[0].contains("%  teacher 38%  left ") && !text[1].contains("teacher"), "\(text)")
  }

  @Test func severalTermsAreShownBesideTheirSum() throws {
    let folder = try TemporaryFolder()
    let file = folder.url.appending(path: "log.jsonl")
    let screen = folder.url.appending(path: "screen")
    try Data().write(to: screen)
    let log = try RunLog(
      file: file, console: .changing(screen.path), every: 1,
      start: .init(step: 0, ranks: 1, changes: []), maximum: { _ in })
    try log.record(Self.report(1, losses: [4, 0.25]))
    try log.record(Self.report(2, losses: [.nan, .infinity]))
    let text = try String(contentsOf: screen, encoding: .utf8)
    #expect(
      text.hasPrefix("step 1/100  epoch 0.02  loss 4.2500 (4.2500)  clip 4 (4)  affinity 0.25 (0.25)  rate 0.0005"))
    #expect(try Self.json(file)[2]["terms"] as? [String: String] == ["clip": "nan", "affinity": "inf"])
  }

  /// The mean of a term that a schedule adds later covers only the steps that have it. Values are logged before their
  /// weights.
  @Test func termsWeightsAnchorsAndNotes() throws {
    let folder = try TemporaryFolder()
    let file = folder.url.appending(path: "log.jsonl")
    let screen = folder.url.appending(path: "screen")
    try Data().write(to: screen)
    let log = try RunLog(
      file: file, console: .changing(screen.path), every: 3, scheduled: ["fd"],
      start: .init(step: 0, ranks: 1, changes: []), maximum: { _ in })
    func report(_ step: Int, fd: Double?, notes: [String]) -> StepReport {
      var report = Self.report(step, losses: [2])
      if let fd {
        report.outcome.report.terms.append(.init(name: "fd", weight: 500, value: fd))
        report.outcome.report.total += 500 * fd
      }
      report.outcome.report.anchors = [
        .init(name: "image", divergenceMean: 0.25, divergenceDeviation: 0.125, weightMean: 1, weightDeviation: 0.5),
        .init(name: "text", divergenceMean: 0.5, divergenceDeviation: 0, weightMean: 1, weightDeviation: 0),
      ]
      report.outcome.report.notes = notes
      return report
    }
    try log.record(report(1, fd: nil, notes: ["few"]))
    #expect(try String(contentsOf: screen, encoding: .utf8) == "few\n")
    try log.record(report(2, fd: 0.001, notes: ["few", "other"]))
    try log.record(report(3, fd: 0.002, notes: ["other"]))
    #expect(
      try String(contentsOf: screen, encoding: .utf8).hasPrefix(
        """
        few
        other
        step 3/100  epoch 0.06  loss 3.0000 (2.5000)  clip 2 (2)  fd 0.002 (0.0015) × 500  image D 0.25±0.125 w 1±0.5  \
        text D 0.5±0 w 1±0  rate 0.0005
        """))
    let lines = try Self.json(file)
    #expect(lines.map { $0["event"] as? String } == ["start", "note", "note", "step"])
    #expect(lines[2]["note"] as? String == "other" && lines[2]["step"] as? Int == 2)
    #expect(lines[3]["received_bytes"] as? Int == 4096)
    #expect(lines[3]["terms"] as? [String: Double] == ["clip": 2, "fd": 0.002])
    #expect(lines[3]["term_means"] as? [String: Double] == ["clip": 2, "fd": 0.0015])
    #expect(lines[3]["term_weights"] as? [String: Double] == ["clip": 1, "fd": 500])
    let anchors = try #require(lines[3]["anchors"] as? [String: [String: Double]])
    #expect(
      anchors["image"] == [
        "divergence_mean": 0.25, "divergence_deviation": 0.125, "weight_mean": 1, "weight_deviation": 0.5,
      ])
    #expect(anchors.keys.sorted() == ["image", "text"])
  }

  /// A step that measures the terms' gradients has a line between those that are due.
  @Test func measuredStepsHaveALine() throws {
    let folder = try TemporaryFolder()
    let file = folder.url.appending(path: "log.jsonl")
    let log = try RunLog(
      file: file, console: nil, every: 2, start: .init(step: 0, ranks: 1, changes: []), maximum: { _ in })
    var measured = Self.report(3, losses: [2, 0.25])
    measured.outcome.report.gradients = [.init(name: "clip", norm: 0.0125), .init(name: "fd", norm: 3)]
    for step in 1...4 { try log.record(step == 3 ? measured : Self.report(step, losses: [2, 0.25])) }
    let lines = try Self.json(file).dropFirst()
    #expect(lines.map { $0["step"] as? Int } == [2, 3, 4])
    #expect(lines.map { $0["term_gradients"] as? [String: Double] } == [nil, ["clip": 0.0125, "fd": 3], nil])
    var window = StepWindow()
    window.add(measured)
    let line = StepLine(measured, window, seconds: 1, dataSeconds: 0, teacherSeconds: 0)
    let text = line.text(scheduled: [])
    #expect(text.contains("  affinity 0.25 (0.25)  gradients clip 0.0125 fd 3  rate 0.0005  "), "\(text)")
  }

  @Test func aResumedRunAppendsBehindHalfALine() throws {
    let folder = try TemporaryFolder()
    let file = URL(filePath: try folder.write("log.jsonl", Data("{\"event\":\"start\"}\n{\"event\":\"st".utf8)))
    let log = try RunLog(
      file: file, console: nil, every: 1, start: .init(step: 7, ranks: 1, changes: ["log.every: 1, was 2"]),
      maximum: { _ in })
    try log.record(Self.report(8, losses: [1]))
    let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
    #expect(lines.count == 4 && lines[1] == "{\"event\":\"st")
    #expect(lines[2].contains("\"changes\":[\"log.every: 1, was 2\"]") && lines[2].contains("\"step\":7"))
    #expect(lines[3].contains("\"step\":8"))
  }

  @Test func durations() {
    let shown = [0, 59.4, 59.6, 187, 7500, 277_200, -.infinity, .nan].map { Figures.duration($0) }
    #expect(shown == ["0s", "59s", "1m00s", "3m07s", "2h05m", "3d05h", "?", "?"])
    #expect(
      [0, 1023, 1024, 1_500_000, 64 << 20, 25_232_932_864].map { Figures.bytes($0) } == [
        "0 B", "1023 B", "1 KiB", "1.4 MiB", "64 MiB", "23.5 GiB",
      ])
  }
}

@Suite struct RunFolderTests {
  @Test func aRunIsNeverOverwritten() throws {
    let folder = try TemporaryFolder()
    var run = try RunFileTests.decode(RunFileTests.least)
    run.output = folder.path("runs")
    #expect(try RunFolder.create(run, resuming: false) == [])
    let file = run.folder.appending(path: "run.yaml")
    #expect(try RunConfig.load(file.path) == run)

    let error = #expect(throws: UserError.self) { try RunFolder.create(run, resuming: false) }
    #expect(error?.status == .usage)
    let message = "runs/tiny holds a run already; go on with it (--resume latest), or start another (--set name=…)"
    #expect(error?.description.hasSuffix(message) == true)

    run.optimizer.learningRate = 1e-3
    run.data.datasets.append(DatasetConfig(path: "b"))
    #expect(
      try RunFolder.create(run, resuming: true) == [
        "data.datasets.1.path: b, was nothing", "data.datasets.1.weight: 1.0, was nothing",
        "optimizer.learning_rate: 0.001, was 0.0005",
      ])
    #expect(try RunConfig.load(file.path) == run)
    #expect(try RunFolder.create(run, resuming: true) == [])

    try Data("name: [".utf8).write(to: file)
    #expect(
      try RunFolder.create(run, resuming: true) == ["the run file it was last started with cannot be read"])
  }

  @Test func otherFilesInTheFolderDoNoHarm() throws {
    let folder = try TemporaryFolder()
    var run = try RunFileTests.decode(RunFileTests.least)
    run.output = folder.url.path
    try folder.write("tiny/job.out", Data("waiting".utf8))
    #expect(try RunFolder.create(run, resuming: false) == [])
  }

  @Test func aFolderThatCannotBeMadeSaysSo() throws {
    let folder = try TemporaryFolder()
    var run = try RunFileTests.decode(RunFileTests.least)
    run.output = try folder.write("file", [])
    let error = #expect(throws: UserError.self) { try RunFolder.create(run, resuming: false) }
    #expect(error?.status == .inputOutput)
    #expect(error?.description.hasSuffix("change output or name") == true)
  }
}
