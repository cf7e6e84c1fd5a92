/// A run's facts, its checkpoints, and the events of its log.
struct RunSection {
  private static let shown = 100
  let run: ReportedRun
  var markup: Markup { "\(facts)\(outcome)\(checkpoints)\(starts)\(notes)" }

  private var facts: Markup {
    var facts = run.history.facts
    if facts.isEmpty, let ranks = run.history.starts.last?.ranks { facts = [.init(name: "ranks", text: "\(ranks)")] }
    if let version = run.history.starts.last?.version {
      facts.insert(.init(name: "program", text: "kinship \(version)"), at: 0)
    }
    if run.history.seconds > 0 { facts.append(.init(name: "time", text: Figures.duration(run.history.seconds))) }
    return facts.isEmpty ? "" : .table([], facts.map { .row("\($0.name)", [.cell($0.text)]) })
  }

  private var outcome: Markup {
    guard let outcome = run.history.outcome else { return "" }
    func row(_ name: Markup, _ pair: (predicted: Double, measured: Double), _ text: (Double) -> String) -> Markup {
      .row(name, [.figure(text(pair.predicted)), .figure(text(pair.measured))])
    }
    let rows = [
      row("memory of the rank that held most", outcome.memory, RunFigures.bytes),
      row("seconds of a step", outcome.stepSeconds) { Figures.significant($0, 3) },
    ]
    let table = Markup.table(["<th></th>", .head("predicted"), .head("measured")], rows)
    return "<h3>Predicted and measured</h3>\n\(table)"
  }

  private var checkpoints: Markup {
    let written = run.history.checkpoints
    let there = Dictionary(uniqueKeysWithValues: run.checkpoints.map { ($0.name, $0.bytes) })
    let names = Set(written.map(\.folder)).union(there.keys).sorted { ($0.count, $0) < ($1.count, $1) }
    guard !names.isEmpty else { return "" }
    func seconds(_ value: Double?) -> Markup { .figure(value.map { Figures.significant($0, 2) + " s" }) }
    let rows = names.suffix(Self.shown).map { name in
      let line = written.last { $0.folder == name }
      let size = there[name].map(Figures.bytes) ?? "removed"
      let times = [line?.writtenSeconds, line?.blockedSeconds].map(seconds)
      let isBest = run.history.best.map { Int(name.trimmingPrefix("step-")) == $0.step } ?? false
      return Markup.row("<code>\(name)</code>\(isBest ? EvaluationSection.mark : nil)", times + [.figure(size)])
    }
    let table = Markup.table(
      [.head("folder", isFigure: false), .head("written in"), .head("training stood still"), .head("size")], rows)
    return """
      <h3>Checkpoints</h3>
      \(table)\(names.count > Self.shown ? "<p class=\"note\">The last \(Self.shown) of \(names.count).</p>" : nil)

      """
  }

  /// The starts after the first, and their changes of the run file.
  private var starts: Markup {
    let starts = run.history.starts.dropFirst()
    guard !starts.isEmpty else { return "" }
    let rows = starts.suffix(Self.shown).map { start in
      Markup.row(
        "\(Chart.step(start.step))",
        [
          .cell(start.time ?? "–"), .figure(start.ranks.map { "\($0)" }),
          .cell(start.changes.isEmpty ? "nothing" : start.changes.joined(separator: "; ")),
        ])
    }
    let (from, at) = (Markup.head("from step", isFigure: false), Markup.head("at", isFigure: false))
    let heads = [from, at, .head("ranks"), .head("changed in the run file", isFigure: false)]
    return "<h3>Started again</h3>\n\(Markup.table(heads, rows))"
  }

  private var notes: Markup {
    let notes = run.history.notes.suffix(Self.shown)
    return notes.isEmpty
      ? "" : "<h3>Notes</h3>\(Markup.table([], notes.map { .row("step \(Chart.step($0.step))", [.cell($0.note)]) }))"
  }
}

/// The most important figures of several runs side by side, one column per run.
struct RunComparison {
  let runs: [ReportedRun]

  var markup: Markup {
    let lists = runs.map { RunFigures($0).list }
    var figures: [RunFigures.Figure] = []
    for figure in lists.joined() where !figures.contains(where: figure.isSame) { figures.append(figure) }
    let heads = runs.enumerated().map { index, run in
      let dashed: Markup? = index >= ChartDrawing.colors ? " dashed" : nil
      return Markup.head("<i class=\"swatch c\(index % ChartDrawing.colors)\(dashed)\"></i><bdi>\(run.name)</bdi>")
    }
    let states = Markup.row("state", runs.map { .figure($0.state) })
    let rows = figures.map { figure in
      let of: Markup? = figure.of.map { " <small>\($0)</small>" }
      return Markup.row("\(figure.name)\(of)", lists.map { .figure($0.first(where: figure.isSame)?.text) })
    }
    return .table([.head("run", isFigure: false)] + heads, [states] + rows, box: "class=\"wide runs\" tabindex=\"0\"")
  }

  var differences: Markup {
    let paths = Set(runs.flatMap(\.settings.keys)).filter { $0 != "name" && $0 != "output" }.sorted()
    let rows = paths.compactMap { path -> Markup? in
      let values = runs.map { $0.settings[path] ?? "–" }
      return Set(values).count > 1 ? .row("<code>\(path)</code>", values.map(Markup.cell)) : nil
    }
    guard !rows.isEmpty else { return "<p>All values of the run files are equal, but for the names.</p>" }
    let heads = runs.map { Markup.head("\($0.name)", isFigure: false) }
    return .table([.head("setting", isFigure: false)] + heads, rows, box: "class=\"wide\" tabindex=\"0\"")
  }
}

struct RunFigures {
  struct Figure {
    var name: String
    /// The evaluation that the figure belongs to; nil for the run's own.
    var of: String?
    var text: String
    var about: String?
    func isSame(_ other: Figure) -> Bool { name == other.name && of == other.of }
  }

  private(set) var list: [Figure] = []

  init(_ run: ReportedRun) {
    let history = run.history
    if let loss = history.table[.loss], let last = loss.finite.last {
      let trend = loss.smoothed?.finite.last
      add(
        "loss", Chart.Form.number.text((trend ?? last).value),
        "at step \(Chart.step(last.step))\(trend == nil ? "" : ", smoothed")")
    }
    for (name, rounds) in history.evaluations {
      guard let last = rounds.last else { continue }
      for figure in ["i2t R@1", "t2i R@1", "i2t MRR", "t2i MRR", "top-1", HeldOutLoss.figure] {
        guard let value = last.figures[figure] else { continue }
        let text = EvaluationNames.form(of: figure).text
        let best = EvaluationNames.best(figure, of: rounds).flatMap { $0 == value ? nil : "best \(text($0))" }
        add(EvaluationNames.long(figure), of: name, text(value), best)
      }
    }
    if let best = history.best {
      add("best checkpoint", of: best.metric, "step \(Chart.step(best.step))", Figures.significant(best.value, 4))
    }
    if let rate = run.median(.samplesPerSecond) { add("pairs a second", Chart.Form.number.text(rate), "median") }
    if let wait = run.median(.dataWait) { add("waiting for data", Chart.Form.share.text(wait), "of the time, median") }
    if let memory = history.outcome?.memory {
      add("memory of a rank", Self.bytes(memory.measured), "predicted \(Self.bytes(memory.predicted))")
    }
    if history.seconds > 0 {
      let ranks = history.starts.last?.ranks
      add("time", Figures.duration(history.seconds), ranks.map { "on \(Figures.count($0, "rank"))" })
    }
  }

  private mutating func add(_ name: String, of evaluation: String? = nil, _ text: String, _ about: String?) {
    list.append(Figure(name: name, of: evaluation, text: text, about: about))
  }

  /// A number of bytes that a log gives, which may be anything.
  static func bytes(_ count: Double) -> String {
    count.isFinite && abs(count) < 1e18 ? Figures.bytes(Int(count)) : "\(count)"
  }
}

/// The figures of a run's evaluations, as tables.
struct EvaluationSection {
  private static let shown = 100
  /// Marks the step or the folder of the best checkpoint.
  static let mark: Markup = " <small class=\"mark\">best checkpoint</small>"
  let run: ReportedRun
  /// True if the headings name the run, because the page has several.
  let isNamed: Bool

  var markup: Markup {
    var markup: Markup = ""
    for (evaluation, rounds) in run.history.evaluations where !rounds.isEmpty {
      let figures = run.history.curves(of: evaluation).map(\.name)
      let best = figures.map { EvaluationNames.best($0, of: rounds) }
      let header = figures.map { figure in
        let direction: Markup? = EvaluationNames.direction(of: figure).map { "<br><small>\($0)</small>" }
        return Markup.head("\(EvaluationNames.short(figure))\(direction)")
      }
      let rows = rounds.suffix(Self.shown).map { round in
        let cells = zip(figures, best).map { figure, best in
          let value = round.figures[figure]
          let text = value.map(EvaluationNames.form(of: figure).text)
          return Markup.figure(text, isBest: rounds.count > 1 && value != nil && value == best)
        }
        let isBest = run.history.best?.isOne(of: evaluation, at: round.step) ?? false
        return Markup.row("\(Chart.step(round.step))\(isBest ? Self.mark : nil)", cells)
      }
      let table = Markup.table([.head("step", isFigure: false)] + header, rows, box: "class=\"wide\" tabindex=\"0\"")
      markup += "<h3>\(isNamed ? "\(run.name): " : "")\(evaluation)</h3>\n\(table)"
      if rounds.count > Self.shown {
        markup += "<p class=\"note\">The last \(Self.shown) of \(rounds.count) rounds.</p>"
      }
    }
    return markup
  }
}

extension LogEvent.Best {
  /// Returns true if this is a figure of an evaluation, and if it was found after `step` steps.
  func isOne(of evaluation: String, at step: Int) -> Bool { step == self.step && metric.hasPrefix("\(evaluation)/") }
}

enum EvaluationNames {
  /// All figures are shares, of which more is better, except for losses.
  static func form(of figure: String) -> Chart.Form { figure == HeldOutLoss.figure ? .number : .share }

  /// The best finite value of a figure; nil if there is none.
  static func best(_ figure: String, of rounds: [LogEvent.Evaluation]) -> Double? {
    let values = rounds.compactMap { $0.figures[figure] }.filter(\.isFinite)
    return figure == HeldOutLoss.figure ? values.min() : values.max()
  }

  static func direction(_ group: String) -> String {
    ["i2t": "image → caption", "t2i": "caption → image"][group] ?? group
  }

  /// The direction of a figure whose name begins with one.
  static func direction(of figure: String) -> String? {
    figure.contains(" ") ? direction(String(figure.prefix { $0 != " " })) : nil
  }

  /// The name with its direction: `R@1, image → caption`.
  static func long(_ figure: String) -> String { direction(of: figure).map { "\(short(figure)), \($0)" } ?? figure }

  /// The name without its direction: `R@1`.
  static func short(_ figure: String) -> String {
    figure.firstIndex(of: " ").map { String(figure[figure.index(after: $0)...]) } ?? figure
  }
}
