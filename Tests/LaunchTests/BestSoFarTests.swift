import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Which round of evaluation is the best, and how many have passed since, while a run goes on and when it resumes.
@Suite struct BestSoFarTests {
  private let share = Metric(evaluation: "retrieval val", figure: "i2t R@1", lowerIsBetter: false)
  private let loss = Metric(evaluation: "loss val", figure: "loss", lowerIsBetter: true)

  private func taking(_ metric: Metric, _ values: [Double]) -> BestSoFar {
    values.enumerated().reduce(into: BestSoFar(metric)) { $0.take($1.element, at: $1.offset + 1) }
  }

  @Test(
    arguments: [
      ([], nil, 0), ([0.5], 1, 0), ([0.5, 0.6, 0.4], 2, 1), ([0.5, 0.5, 0.5], 1, 2), ([.nan, .infinity], nil, 2),
      ([.nan, 0.1, .nan, 0.05, -.infinity], 2, 3), ([-1, 0], 2, 0),
    ] as [([Double], Int?, Int)])
  func moreIsBetter(values: [Double], best: Int?, since: Int) {
    let found = taking(share, values)
    #expect(found.best?.step == best && found.since == since)
    #expect(found.best?.value == best.map { values[$0 - 1] })
  }

  @Test(
    arguments: [([2, 1, 3], 2, 1), ([2, 2], 1, 1), ([2, .nan, -.infinity, 1.5], 4, 0)] as [([Double], Int?, Int)])
  func lessIsBetter(values: [Double], best: Int?, since: Int) {
    let found = taking(loss, values)
    #expect(found.best?.step == best && found.since == since)
  }

  @Test func patience() {
    let found = taking(share, [0.5, 0.1, 0.1])
    #expect(found.hasEnded(patience: 2) && found.hasEnded(patience: 1))
    #expect(!found.hasEnded(patience: 3) && !found.hasEnded(patience: nil))
  }

  @Test func names() throws {
    let averaged = Metric(evaluation: "retrieval val ema", figure: "i2t R@1", lowerIsBetter: false)
    let all = [share, averaged, loss]
    #expect(try Metric(named: "retrieval val/i2t R@1", among: all) == share)
    #expect(try Metric(named: "retrieval val ema/i2t R@1", among: all) == averaged)
    #expect(try Metric(named: "loss", among: all) == loss)
    let list = "they are: retrieval val/i2t R@1, retrieval val ema/i2t R@1, loss val/loss"
    for (name, problem) in [("R@1", "found \"R@1\""), ("i2t R@1", "found \"i2t R@1\", which 2 figures match")] {
      let error = #expect(throws: UserError.self) { try Metric(named: name, among: all) }
      #expect(error?.status == .usage && error?.path == "evaluate.keep_best")
      #expect(error?.reason == "expected one figure of the run's evaluations, \(problem); \(list)")
    }
  }

  /// Reads a log of a start and these events, and returns the best up to a step.
  private func resumed(
    _ events: [any LogEventFields], upTo last: Int, there: Set<Int>, marked: BestFigure? = nil, from first: Int = 0
  ) throws -> BestSoFar {
    let folder = try TemporaryFolder()
    let start: any LogEventFields = LogEvent.Start(step: 0, ranks: 1, changes: [])
    let lines = try ([start] + events).map { try $0.line() }
    let log = URL(filePath: try folder.write("log.jsonl", lines.joined()))
    return BestSoFar(
      share, in: try LogReader.read(log, run: "x"), upTo: last, marked: marked, counts: { $0 > first },
      isThere: { there.contains($0) })
  }

  private func round(_ step: Int, _ value: Double, of evaluation: String = "retrieval val") -> any LogEventFields {
    LogEvent.Evaluation(step: step, evaluation: evaluation, figures: ["i2t R@1": value, "t2i R@1": 1 - value])
  }

  @Test func whatALogHas() throws {
    let rounds = [round(2, 0.1), round(4, 0.4), round(4, 0.9, of: "retrieval other"), round(6, 0.3), round(8, 0.6)]
    func found(upTo last: Int, _ there: Set<Int> = [2, 4, 6, 8], from first: Int = 0) throws -> [Int] {
      let best = try resumed(rounds, upTo: last, there: there, from: first)
      return [best.best?.step ?? -1, best.since]
    }
    #expect(try found(upTo: 9) == [8, 0])
    #expect(try found(upTo: 7) == [4, 1], "a later round is on a branch that was left")
    #expect(try found(upTo: 1) == [-1, 0])
    #expect(try found(upTo: 9, [4, 6]) == [4, 2], "what was better and is lost counts as a round")
    #expect(try found(upTo: 7, [6]) == [6, 0], "rounds before the first that is there do not count")
    #expect(try found(upTo: 7, from: 4) == [6, 0], "nor do those before a cut")
    #expect(try resumed(rounds, upTo: 7, there: [4]).best == BestFigure(metric: share.name, step: 4, value: 0.4))
  }

  /// The log of a run that went back, and one that is gone.
  @Test func branchesAndLostLogs() throws {
    let again = LogEvent.Start(step: 4, ranks: 2, changes: [])
    let events = [round(2, 0.1), round(4, 0.2), round(6, 0.9), again, round(6, 0.15)]
    let back = try resumed(events, upTo: 6, there: [2, 4, 6])
    #expect(back.best?.step == 4 && back.since == 1, "the round of step 6 that was left does not count")

    let marked = BestFigure(metric: share.name, step: 4, value: 0.7)
    let lost = try resumed([], upTo: 6, there: [4, 6], marked: marked)
    #expect(lost.best == marked && lost.since == 0)
    #expect(try resumed([], upTo: 3, there: [4], marked: marked).best == nil)
    #expect(try resumed([], upTo: 6, there: [6], marked: marked).best == nil)
    let other = BestFigure(metric: loss.name, step: 4, value: 0.7)
    #expect(try resumed([], upTo: 6, there: [4], marked: other).best == nil)
    #expect(try resumed([round(4, 0.2)], upTo: 6, there: [4], marked: marked).best?.value == 0.2)
  }

  /// A run that goes back before its best round loses it in the report too.
  @Test func theReportMarksTheBest() throws {
    let folder = try TemporaryFolder()
    let metric = share.name
    func run(_ more: [any LogEventFields]) throws -> ReportedRun {
      let events: [any LogEventFields] = [
        LogEvent.Start(step: 0, ranks: 1, changes: []), round(2, 0.1), round(4, 0.4),
        LogEvent.Best(step: 4, metric: metric, value: 0.4),
        LogEvent.Checkpoint(step: 4, folder: "x/step-00000004", blockedSeconds: 0, writtenSeconds: 1), round(6, 0.3),
      ]
      try folder.write("x/log.jsonl", (events + more).map { try $0.line() }.joined())
      return try ReportedRun(folder.path("x"))
    }
    let best = try run([])
    let charts = ReportCurves(runs: [best]).evaluations
    let marked = charts.flatMap(\.lines).filter { $0.best != nil }
    #expect(marked.map(\.name) == ["R@1"] && marked.first?.best?.step == 4 && charts.count == 2)
    let drawn = charts.map { ChartDrawing($0, steps: 0...6, starts: [], number: 1).markup.text }
    #expect(drawn.map { $0.contains("<circle class=\"best-step c0\"") } == [true, false])
    #expect(drawn[0].contains("best checkpoint at step 4"))
    let table = EvaluationSection(run: best, isNamed: false).markup.text
    #expect(table.contains("<th scope=\"row\">4\(EvaluationSection.mark.text)</th>"))
    #expect(table.components(separatedBy: "best checkpoint").count == 2)
    #expect(RunSection(run: best).markup.text.contains("<code>step-00000004</code>\(EvaluationSection.mark.text)"))
    let line = RunFigures(best).list.first { $0.name == "best checkpoint" }
    #expect(line?.of == metric && line?.text == "step 4" && line?.about == "0.4")

    let back = try run([LogEvent.Start(step: 2, ranks: 1, changes: [])])
    #expect(back.history.best == nil && !RunFigures(back).list.contains { $0.name == "best checkpoint" })
  }
}
