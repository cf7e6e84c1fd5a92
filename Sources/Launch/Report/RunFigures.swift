/// The few numbers by which a run is known.
struct RunFigures {
  struct Figure {
    var name: String
    /// Of which evaluation.
    var of: String?
    var text: String
    var about: String?

    /// Whether another run's figure says the same thing.
    func isSame(_ other: Figure) -> Bool { name == other.name && of == other.of }
  }

  let list: [Figure]

  init(_ run: ReportedRun) {
    var list: [Figure] = []
    let history = run.history
    if let loss = history.table[.loss], let last = loss.finite.last {
      let trend = loss.smoothed?.finite.last
      list.append(
        Figure(
          name: "loss", text: Chart.Form.number.text((trend ?? last).value),
          about: "at step \(Chart.step(last.step))\(trend == nil ? "" : ", smoothed")"))
    }
    for (name, rounds) in history.evaluations {
      guard let last = rounds.last else { continue }
      for figure in ["i2t R@1", "t2i R@1", "top-1"] {
        guard let value = last.figures[figure] else { continue }
        let best = rounds.compactMap { $0.figures[figure] }.filter(\.isFinite).max() ?? value
        list.append(
          Figure(
            name: EvaluationNames.long(figure), of: name, text: EvaluationSection.text(value),
            about: best > value ? "best \(EvaluationSection.text(best))" : nil))
      }
    }
    if let rate = run.median(.samplesPerSecond) {
      list.append(Figure(name: "pairs a second", text: Chart.Form.number.text(rate), about: "median"))
    }
    if let wait = run.median(.dataWait) {
      list.append(Figure(name: "waiting for data", text: Chart.Form.share.text(wait), about: "of the time, median"))
    }
    if let outcome = history.outcome {
      list.append(
        Figure(
          name: "memory of a rank", text: Self.bytes(outcome.memory.measured),
          about: "predicted \(Self.bytes(outcome.memory.predicted))"))
    }
    if history.seconds > 0 {
      list.append(
        Figure(
          name: "time", text: Figures.duration(history.seconds),
          about: history.starts.last?.ranks.map { "on \($0) \($0 == 1 ? "rank" : "ranks")" }))
    }
    self.list = list
  }
  static func bytes(_ count: Double) -> String {
    count.isFinite && abs(count) < 1e18 ? Figures.bytes(Int(count)) : "\(count)"
  }
}
