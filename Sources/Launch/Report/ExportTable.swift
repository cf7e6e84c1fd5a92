/// The figures of exported forms for readers: as a table in Markdown and in HTML, and as plots of each accuracy against
/// the latency that it costs.
struct ExportTable {
  /// A figure of an evaluation, as the run's log names both.
  private struct Accuracy: Hashable {
    var evaluation, figure: String
    /// The place of its figure among others of the evaluation.
    var rank: Int { ["i2t R@1", "t2i R@1", "top-1"].firstIndex(of: figure) ?? 3 }
    /// An answer to a caption costs a caption's embedding, any other an image's.
    var isOfCaptions: Bool { figure.hasPrefix("t2i ") }
  }

  private static let longest = 80
  private let exports: ExportFigures
  private let accuracies: [Accuracy]

  init(_ exports: ExportFigures) {
    self.exports = exports
    let all = exports.forms.flatMap { form in
      form.accuracy.flatMap { evaluation, figures in
        figures.keys.map { Accuracy(evaluation: evaluation, figure: $0) }
      }
    }
    accuracies = Set(all).sorted { ($0.evaluation, $0.rank, $0.figure) < ($1.evaluation, $1.rank, $1.figure) }
  }

  private var heads: [String] {
    ["on disk", "memory", "one image, ms (p99)", "one caption, ms (p99)", "images/s", "captions/s"]
      + accuracies.map { "\(EvaluationNames.long($0.figure)) (\($0.evaluation.shortened(to: Self.longest)))" }
  }

  private func cells(_ form: ExportFigures.Form) -> [String?] {
    func rate(_ value: Double) -> String { Chart.Form.number.text(value) }
    return [
      Figures.bytes(form.bytes), Figures.bytes(form.peakBytes), form.image.text, form.caption.text,
      rate(form.imagesPerSecond), rate(form.captionsPerSecond),
    ] + accuracies.map { value($0, form).map(Chart.Form.share.text) }
  }

  private func value(_ accuracy: Accuracy, _ form: ExportFigures.Form) -> Double? {
    form.accuracy[accuracy.evaluation]?[accuracy.figure]
  }

  /// Under which conditions the figures were measured.
  private var conditions: String {
    let step = exports.step.map { " after step \(Chart.step($0))" } ?? ""
    let programs = exports.forms.map(\.program).reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
    return "\(exports.run.shortened(to: Self.longest))\(step), measured on "
      + "\(exports.processor.shortened(to: Self.longest)) at \(exports.time.shortened(to: Self.longest)) with "
      + "\(programs.map { $0.shortened(to: Self.longest) }.joined(separator: ", ")). Latencies are medians and 99th "
      + "percentiles of one image of \(exports.imageSize) × \(exports.imageSize) pixels, and of one caption of "
      + "\(exports.captionTokens) tokens, on one core; rates are those of batches of \(exports.batch) on "
      + "\(Figures.count(exports.cores, "core")). Memory is the most that a process has had when it has embedded "
      + "single images and captions. Images are prepared and captions tokenized beforehand."
  }

  // MARK: - Markdown

  var markdown: String {
    func row(_ cells: [String]) -> String { "| \(cells.joined(separator: " | ")) |" }
    let names = (["form"] + heads).map { ModelCard.plain($0) }
    let rows = exports.forms.map { form in
      row([ModelCard.plain(form.name.shortened(to: Self.longest))] + cells(form).map { ModelCard.plain($0 ?? "–") })
    }
    let rule = row(["---"] + heads.map { _ in "---:" })
    return "\(([row(names), rule] + rows).joined(separator: "\n"))\n\n\(ModelCard.plain(conditions))\n"
  }

  // MARK: - HTML and SVG

  var markup: Markup {
    let heads = heads.map { Markup.head("\($0)") }
    let rows = exports.forms.map { form in
      Markup.row("\(form.name.shortened(to: Self.longest))", cells(form).map { .figure($0) })
    }
    let table = Markup.table([.head("form", isFigure: false)] + heads, rows, box: "class=\"wide\" tabindex=\"0\"")
    return "\(table)<p class=\"note\">\(conditions)</p>\n"
  }

  /// A chart for each accuracy that some form has.
  var charts: [ScatterChart] {
    accuracies.map { accuracy in
      let points = exports.forms.enumerated().compactMap { index, form in
        value(accuracy, form).map { value in
          let latency = accuracy.isOfCaptions ? form.caption : form.image
          return ScatterChart.Point(
            name: form.name.shortened(to: Self.longest), color: index, isHollow: form.isTeacher, x: latency.median,
            y: value)
        }
      }
      return ScatterChart(
        title: EvaluationNames.long(accuracy.figure),
        about: accuracy.evaluation.shortened(to: Self.longest),
        unit: "ms for one \(accuracy.isOfCaptions ? "caption" : "image") on one core", points: points)
    }
  }

  /// The charts as an SVG file.
  var plot: String { ScatterDrawing.document(charts.isEmpty ? [latencies] : charts) }

  /// What can be drawn without an accuracy: the latency of a caption against that of an image.
  private var latencies: ScatterChart {
    ScatterChart(
      title: "one caption, ms", about: "no evaluation of the run has an accuracy", unit: "ms for one image on one core",
      points: exports.forms.enumerated().map { index, form in
        .init(
          name: form.name.shortened(to: Self.longest), color: index, isHollow: form.isTeacher, x: form.image.median,
          y: form.caption.median)
      }, form: .number)
  }
}
