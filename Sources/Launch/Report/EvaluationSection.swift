/// The figures of a run's evaluations, as tables.
struct EvaluationSection {
  /// The largest number of rounds shown; the last ones are kept.
  private static let shown = 100

  let run: ReportedRun
  /// True if the headings name the run, because the page has several.
  let isNamed: Bool

  var markup: Markup {
    var markup: Markup = ""
    for (evaluation, rounds) in run.history.evaluations where !rounds.isEmpty {
      let figures = run.history.curves(of: evaluation).map(\.name)
      let best = figures.map { figure in rounds.compactMap { $0.figures[figure] }.filter(\.isFinite).max() }
      let header = figures.map { figure in
        let direction: Markup? =
          figure.contains(" ")
          ? "<br><small>\(EvaluationNames.direction(String(figure.prefix { $0 != " " })))</small>" : nil
        return "<th scope=\"col\" class=\"figure\">\(EvaluationNames.short(figure))\(direction)</th>" as Markup
      }
      let rows = rounds.suffix(Self.shown).map { round in
        let cells = zip(figures, best).map { figure, best in
          let value = round.figures[figure]
          let isBest = rounds.count > 1 && value != nil && value == best
          return "<td class=\"figure\(isBest ? " best" : "")\">\(value.map(Self.text) ?? "–")</td>" as Markup
        }
        return "<tr><th scope=\"row\">\(Chart.step(round.step))</th>\(cells)</tr>" as Markup
      }
      markup += """
        <h3>\(isNamed ? "\(run.name): " : "")\(evaluation)</h3>
        <div class="wide" tabindex="0"><table><thead><tr><th scope="col">step</th>\(header)</tr></thead>
        <tbody>\(rows)</tbody></table></div>

        """
      if rounds.count > Self.shown {
        markup += "<p class=\"note\">The last \(Self.shown) of \(rounds.count) rounds.</p>"
      }
    }
    return markup
  }

  /// Figures of evaluations are shares, written in percent.
  static func text(_ value: Double) -> String { Chart.Form.share.text(value) }
}

/// The names of evaluations' figures on a page.
enum EvaluationNames {
  static func direction(_ group: String) -> String {
    switch group {
    case "i2t": "image → caption"
    case "t2i": "caption → image"
    default: group
    }
  }

  /// The name with its direction: `R@1, image → caption`.
  static func long(_ figure: String) -> String {
    figure.contains(" ") ? "\(short(figure)), \(direction(String(figure.prefix { $0 != " " })))" : figure
  }

  /// The name without its direction: `R@1`.
  static func short(_ figure: String) -> String {
    figure.firstIndex(of: " ").map { String(figure[figure.index(after: $0)...]) } ?? figure
  }
}
