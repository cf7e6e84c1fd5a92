import Dist
import Model

/// A figure of one of a run's evaluations, by the names that the log has, by which the run keeps its best checkpoint.
struct Metric: Codable, Equatable {
  let evaluation: String
  let figure: String
  let lowerIsBetter: Bool
  var name: String { "\(evaluation)/\(figure)" }

  init(evaluation: String, figure: String, lowerIsBetter: Bool) {
    (self.evaluation, self.figure, self.lowerIsBetter) = (evaluation, figure, lowerIsBetter)
  }

  /// Finds the metric that a run file names: evaluation and figure, or the figure alone if only one evaluation has it.
  init(named text: String, among all: [Metric]) throws {
    let named = all.filter { $0.name == text }
    let found = named.isEmpty ? all.filter { $0.figure == text } : named
    guard found.count == 1 else {
      let problem = found.isEmpty ? "found \"\(text)\"" : "found \"\(text)\", which \(found.count) figures match"
      let names = all.map(\.name).joined(separator: ", ")
      throw UserError(
        "evaluate.keep_best", "expected one figure of the run's evaluations, \(problem); they are: \(names)",
        status: .usage, isShared: true)
    }
    self = found[0]
  }
}

/// The best of a run's rounds of evaluation so far by one metric, and the number of rounds since.
struct BestSoFar: Codable, Equatable {
  let metric: Metric
  private(set) var best: BestFigure?
  private(set) var since = 0

  init(_ metric: Metric) { self.metric = metric }

  /// Counts the round after `step` steps. It is the best if its figure is finite and better than that of every earlier
  /// one, so that of equal ones the earliest remains.
  mutating func take(_ value: Double, at step: Int) {
    let isBetter = best.map { metric.lowerIsBetter ? value < $0.value : value > $0.value } ?? true
    guard value.isFinite, isBetter else {
      since += 1
      return
    }
    (best, since) = (BestFigure(metric: metric.name, step: step, value: value), 0)
  }

  /// Counts the rounds that a run's log has up to `last` and `counts` names. Only a round whose checkpoint is there can
  /// be the best: others were on a branch of the run that was left, or came before it kept its best. Without the log,
  /// the figure that is `marked` on the disk is the best.
  init(
    _ metric: Metric, in history: RunHistory, upTo last: Int, marked: BestFigure?, counts: (Int) -> Bool,
    isThere: (Int) -> Bool
  ) {
    self.init(metric)
    for round in history.evaluations.first(where: { $0.name == metric.evaluation })?.rounds ?? [] {
      guard round.step <= last, counts(round.step), let value = round.figures[metric.figure] else { continue }
      let isKept = isThere(round.step)
      if isKept || best != nil { take(isKept ? value : .nan, at: round.step) }
    }
    guard best == nil, let marked, marked.metric == metric.name else { return }
    if marked.step <= last, isThere(marked.step) { best = marked }
  }

  /// Returns whether `patience` rounds or more have brought no new best; false without a limit.
  func hasEnded(patience: Int?) -> Bool { patience.map { since >= $0 } ?? false }
}

extension BestFigure {
  /// The figure as lines of the log say it: `retrieval val/i2t R@1 0.4375`.
  var text: String { "\(metric) \(Figures.significant(value, 4))" }
}
