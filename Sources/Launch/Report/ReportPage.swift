import Dist
import Foundation

/// A report as one HTML page that needs no other files. Its content policy allows only its own style sheet and script,
/// by their SHA-256, and its images: even a caption that got through unescaped could neither run nor load anything.
struct ReportPage {
  let runs: [ReportedRun]
  /// The examples, or the reason why there are none; nil if none were asked for.
  var examples: Markup?
  var time = RunLog.now

  private var title: String {
    runs.count == 1 ? runs[0].name : "\(runs.count) runs: " + runs.map(\.name).joined(separator: ", ")
  }

  var markup: Markup {
    let (style, script) = (Markup(trusted: ReportStyle.sheet), Markup(trusted: ReportScript.source))
    let sections = sections
    let contents = sections.map { "<li><a href=\"#\($0.id)\">\($0.title)</a></li>" as Markup }
    let bodies = sections.map {
      "<section aria-labelledby=\"\($0.id)\"><h2 id=\"\($0.id)\">\($0.title)</h2>\n\($0.body)</section>\n" as Markup
    }
    return """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <title>\(title) – Kinship</title>
      <meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
      style-src '\(Self.digest(style))'; script-src '\(Self.digest(script))'; base-uri 'none'; form-action 'none'">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta name="color-scheme" content="light dark">
      <link rel="icon" href="data:,">
      <style>\(style)</style>
      </head>
      <body>
      <main>
      <header>
      <h1>\(title)</h1>
      \(runs.count == 1 ? "<p class=\"state quiet\">\(runs[0].state)</p>" : nil)
      \(runs.count == 1 ? tiles(runs[0]) : RunComparison(runs: runs).markup)
      \(troubles)
      <nav aria-label="Contents"><ul>\(contents)</ul></nav>
      </header>
      \(bodies)
      <footer><p>Written by kinship \(Release.version) on \(time) from \
      \(runs.map { "<code>\($0.path)</code>" as Markup }.joined(", ")).</p></footer>
      </main>
      <script>\(script)</script>
      </body>
      </html>

      """
  }

  private static func digest(_ markup: Markup) -> Markup {
    Markup(trusted: "sha256-" + Data(SHA256.hash(markup.text.utf8).bytes).base64EncodedString())
  }

  private var sections: [(id: String, title: String, body: Markup)] {
    let curves = ReportCurves(runs: runs)
    let steps = 0...max(1, runs.map(\.history.lastStep).max() ?? 1)
    let starts = runs.count == 1 ? runs[0].history.starts.map(\.step).filter { $0 > 0 }.suffix(50) : []
    var number = 0
    func drawn(_ charts: [Chart]) -> Markup {
      let figures = charts.map { chart in
        number += 1
        return ChartDrawing(chart, steps: steps, starts: Array(starts), number: number).markup
      }
      return "<div class=\"charts\">\(figures)</div>\n"
    }
    var sections: [(id: String, title: String, body: Markup)] = []
    let charts = curves.sections
    if !charts.isEmpty {
      let parts = charts.map { "<h3>\($0.title)</h3>\n\(drawn($0.charts))" as Markup }
      let again: Markup = "<p class=\"note\">Dotted lines: the run was started again there.</p>"
      let smooth: Markup = """
        <p class="note">Pale lines are the logged values, strong ones the mean of a value and its neighbours, \
        a fiftieth of the run on either side.</p>
        """
      let noisy = charts.flatMap(\.charts).filter(\.isNoisy).flatMap(\.lines)
      let isSmoothed = noisy.contains { $0.curve.smoothed != nil }
      sections.append(("curves", "Curves", "\(isSmoothed ? smooth : nil)\(starts.isEmpty ? nil : again)\(parts)"))
    }
    let evaluated = curves.evaluations.filter { $0.lines.contains { $0.curve.finite.count > 1 } }
    let figures = runs.map { EvaluationSection(run: $0, isNamed: runs.count > 1).markup }
    if figures.contains(where: { $0.text != "" }) {
      sections.append(("evaluation", "Evaluation", "\(evaluated.isEmpty ? nil : drawn(evaluated))\(figures)"))
    }
    let forms = runs.compactMap { run -> Markup? in
      guard let exports = run.exports else { return nil }
      let table = ExportTable(exports)
      let plots = table.charts.map { chart in
        number += 1
        return ScatterDrawing(chart).markup(number: number)
      }
      let name: Markup? = runs.count > 1 ? "<h3>\(run.name)</h3>\n" : nil
      return "\(name)\(table.markup)<div class=\"charts\">\(plots)</div>\n"
    }
    if !forms.isEmpty { sections.append(("exports", "Exported forms", "\(forms)")) }
    if let examples { sections.append(("examples", "Retrieval examples", examples)) }
    if runs.count == 1 {
      sections.append(("run", "The run", RunSection(run: runs[0]).markup))
      if let yaml = runs[0].yaml {
        let about: Markup = "<p class=\"note\">Resolved: every value that the run had, defaults too.</p>\n"
        let file: Markup = "<pre class=\"file\" tabindex=\"0\" aria-label=\"Run file\">\(yaml)</pre>\n"
        sections.append(("file", "Run file", "\(about)\(file)"))
      }
    } else {
      sections.append(("differences", "What differs", RunComparison(runs: runs).differences))
      for (at, run) in runs.enumerated() { sections.append(("run-\(at + 1)", run.name, RunSection(run: run).markup)) }
    }
    return sections
  }

  private var troubles: Markup? {
    let lines = runs.flatMap { run in
      run.troubles.map { "<p>\(runs.count > 1 ? "\(run.name): " : "")\($0).</p>" as Markup }
    }
    return lines.isEmpty ? nil : "<div class=\"alert\" role=\"note\">\(lines)</div>"
  }

  private func tiles(_ run: ReportedRun) -> Markup {
    let figures = RunFigures(run).list.map { figure in
      let about = [figure.of, figure.about].compactMap { $0 }.joined(separator: ", ")
      return "<div><dt>\(figure.name)</dt><dd>\(figure.text)<small>\(about)</small></dd></div>" as Markup
    }
    return "<dl class=\"tiles\">\(figures)</dl>"
  }

  /// Writes the page as a whole: a reader sees either the old page or the new one.
  func write(to path: String) throws(ReportError) {
    do throws(FileError) {
      try Publish.file(path) { file throws(FileError) in try file.append(Array(markup.text.utf8)) }
    } catch { throw .unwritable(error) }
  }
}
