/// A run's facts, its checkpoints, and the events of its log.
struct RunSection {
  /// The largest number of rows shown in a table; the last ones are kept.
  private static let shown = 100

  let run: ReportedRun

  var markup: Markup { "\(facts)\(outcome)\(checkpoints)\(starts)\(notes)" }

  /// The facts of the run's header.
  private var facts: Markup {
    var facts = run.history.facts
    if facts.isEmpty, let ranks = run.history.starts.last?.ranks {
      facts = [.init(name: "ranks", text: "\(ranks)")]
    }
    if let version = run.history.starts.last?.version {
      facts.insert(.init(name: "program", text: "kinship \(version)"), at: 0)
    }
    if run.history.seconds > 0 { facts.append(.init(name: "time", text: Figures.duration(run.history.seconds))) }
    guard !facts.isEmpty else { return "" }
    let rows = facts.map { "<tr><th scope=\"row\">\($0.name)</th><td>\($0.text)</td></tr>" as Markup }
    return "<div class=\"wide\"><table><tbody>\(rows)</tbody></table></div>\n"
  }

  private var outcome: Markup {
    guard let outcome = run.history.outcome else { return "" }
    func row(_ name: String, _ pair: (predicted: Double, measured: Double), _ text: (Double) -> String) -> Markup {
      """
      <tr><th scope="row">\(name)</th><td class="figure">\(text(pair.predicted))</td>\
      <td class="figure">\(text(pair.measured))</td></tr>
      """
    }
    return """
      <h3>Predicted and measured</h3>
      <div class="wide"><table><thead><tr><th></th><th scope="col" class="figure">predicted</th>\
      <th scope="col" class="figure">measured</th></tr></thead><tbody>
      \(row("memory of the rank that held most", outcome.memory, RunFigures.bytes))
      \(row("seconds of a step", outcome.stepSeconds) { Figures.significant($0, 3) })
      </tbody></table></div>

      """
  }

  private var checkpoints: Markup {
    let written = run.history.checkpoints
    let there = Dictionary(uniqueKeysWithValues: run.checkpoints.map { ($0.name, $0.bytes) })
    let names = Set(written.map(\.folder)).union(there.keys).sorted { ($0.count, $0) < ($1.count, $1) }
    guard !names.isEmpty else { return "" }
    func seconds(_ value: Double?) -> String { value.map { Figures.significant($0, 2) + " s" } ?? "–" }
    let rows = names.suffix(Self.shown).map { name in
      let line = written.last { $0.folder == name }
      return """
        <tr><th scope="row"><code>\(name)</code></th><td class="figure">\(seconds(line?.writtenSeconds))</td>\
        <td class="figure">\(seconds(line?.blockedSeconds))</td>\
        <td class="figure">\(there[name].map(Figures.bytes) ?? "removed")</td></tr>
        """ as Markup
    }
    return """
      <h3>Checkpoints</h3>
      <div class="wide"><table><thead><tr><th scope="col">folder</th><th scope="col" class="figure">written in</th>\
      <th scope="col" class="figure">training stood still</th><th scope="col" class="figure">size</th></tr></thead>
      <tbody>\(rows)</tbody></table></div>
      \(names.count > Self.shown ? "<p class=\"note\">The last \(Self.shown) of \(names.count).</p>" : nil)

      """
  }

  /// The starts after the first, and their changes of the run file.
  private var starts: Markup {
    let starts = run.history.starts.dropFirst()
    guard !starts.isEmpty else { return "" }
    let rows = starts.suffix(Self.shown).map { start in
      """
      <tr><th scope="row">\(Chart.step(start.step))</th><td>\(start.time ?? "–")</td>\
      <td class="figure">\(start.ranks.map { "\($0)" } ?? "–")</td>\
      <td>\(start.changes.isEmpty ? "nothing" : start.changes.joined(separator: "; "))</td></tr>
      """ as Markup
    }
    return """
      <h3>Started again</h3>
      <div class="wide"><table><thead><tr><th scope="col">from step</th><th scope="col">at</th>\
      <th scope="col" class="figure">ranks</th><th scope="col">changed in the run file</th></tr></thead>
      <tbody>\(rows)</tbody></table></div>

      """
  }

  private var notes: Markup {
    guard !run.history.notes.isEmpty else { return "" }
    let items = run.history.notes.suffix(Self.shown).map {
      "<tr><th scope=\"row\">step \(Chart.step($0.step))</th><td>\($0.text)</td></tr>" as Markup
    }
    return "<h3>Notes</h3><div class=\"wide\"><table><tbody>\(items)</tbody></table></div>\n"
  }
}
