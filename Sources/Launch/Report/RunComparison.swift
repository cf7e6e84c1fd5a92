/// The most important figures of several runs side by side, one column per run.
struct RunComparison {
  let runs: [ReportedRun]

  var markup: Markup {
    let lists = runs.map { RunFigures($0).list }
    var figures: [RunFigures.Figure] = []
    for figure in lists.joined() where !figures.contains(where: figure.isSame) { figures.append(figure) }
    let header = runs.enumerated().map { index, run in
      let dashed: Markup? = index >= ChartDrawing.colors ? " dashed" : nil
      return """
        <th scope="col" class="figure"><i class="swatch c\(index % ChartDrawing.colors)\(dashed)"></i>\
        <bdi>\(run.name)</bdi></th>
        """ as Markup
    }
    let rows = figures.map { figure in
      let of: Markup? = figure.of.map { " <small>\($0)</small>" }
      let cells = lists.map { list in
        "<td class=\"figure\">\(list.first(where: figure.isSame)?.text ?? "–")</td>" as Markup
      }
      return "<tr><th scope=\"row\">\(figure.name)\(of)</th>\(cells)</tr>" as Markup
    }
    let states = runs.map { "<td class=\"figure\">\($0.state)</td>" as Markup }
    return """
      <div class="wide runs" tabindex="0"><table><thead><tr><th scope="col">run</th>\(header)</tr></thead>
      <tbody><tr><th scope="row">state</th>\(states)</tr>\(rows)</tbody></table></div>
      """
  }
}

/// The settings in which several runs differ.
struct RunDifferences {
  let runs: [ReportedRun]

  var markup: Markup {
    let paths = Set(runs.flatMap(\.settings.keys)).filter { $0 != "name" && $0 != "output" }.sorted()
    let rows = paths.compactMap { path -> Markup? in
      let values = runs.map { $0.settings[path] ?? "–" }
      guard Set(values).count > 1 else { return nil }
      return "<tr><th scope=\"row\"><code>\(path)</code></th>\(values.map { "<td>\($0)</td>" as Markup })</tr>"
    }
    guard !rows.isEmpty else { return "<p>All values of the run files are equal, but for the names.</p>" }
    let header = runs.map { "<th scope=\"col\">\($0.name)</th>" as Markup }
    return """
      <div class="wide" tabindex="0"><table><thead><tr><th scope="col">setting</th>\(header)</tr></thead>
      <tbody>\(rows)</tbody></table></div>

      """
  }
}

/// The most important figures of a run.
struct RunFigures {
  struct Figure {
    var name: String
    /// The evaluation that the figure belongs to; nil for the run's own.
    var of: String?
    var text: String
    var about: String?

    /// Returns whether another run's figure measures the same thing.
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

  /// A number of bytes that a log gives, which may be anything.
  static func bytes(_ count: Double) -> String {
    count.isFinite && abs(count) < 1e18 ? Figures.bytes(Int(count)) : "\(count)"
  }
}
