import Foundation

/// A chart as SVG within a figure. It is readable without a script; the script adds the values under the pointer.
struct ChartDrawing {
  private typealias Frame = ChartFrame
  /// The number of colours in the palette. Further lines reuse them, dashed.
  static let colors = 6
  let chart: Chart
  let starts: [Int]
  let number: Int
  private let x: ChartAxis
  private let y: ChartAxis

  init(_ chart: Chart, steps: ClosedRange<Int>, starts: [Int], number: Int) {
    (self.chart, self.starts, self.number) = (chart, starts, number)
    x = ChartAxis(steps: steps)
    let values = chart.lines.flatMap { line in
      line.curve.finite.map(\.value) + Self.bounds(line).flatMap { [$0.low, $0.high] }
    }
    y = ChartAxis(
      over: values, fromZero: chart.isFromZero, mayBeLogarithmic: chart.isNoisy && !chart.isFromZero, form: chart.form)
  }

  var markup: Markup {
    var body = ChartFrame(x: x, y: y, unit: "step").axes
    for start in starts {
      let at = Frame.horizontal(x.place(Double(start)))
      body += "<path class=\"start\" d=\"\(Frame.move(at, Frame.top))V\(Frame.text(Frame.bottom))\"/>"
    }
    for line in chart.lines { if let band = band(line) { body += band } }
    for line in chart.lines { body += drawing(line) }
    return ChartFigure(
      number: number, title: chart.title, about: "\(chart.about)\(y.isLogarithmic ? "; logarithmic" : "")",
      attributes: attributes, body: body, caption: caption
    ).markup
  }

  /// What the script reads of the drawing, to find the values under the pointer.
  private var attributes: Markup {
    """
     data-steps="\(Self.value(x.low)) \(Self.value(x.high))" \
    data-values="\(Self.value(y.low)) \(Self.value(y.high))" data-log="\(y.isLogarithmic ? 1 : 0)" \
    data-form="\(chart.form.rawValue)" data-area="\(Self.area)"
    """
  }

  /// The name of each line and a summary of its course.
  private var caption: Markup {
    if chart.lines.count == 1, isAlone {
      return "\(chart.lines[0].curve.summary(chart.form, isShort: false))\(bestText(chart.lines[0]))"
    }
    return chart.lines.map { line in
      ChartFigure.key(
        line.name, color: line.color, isDashed: isDashed(line),
        "\(line.curve.summary(chart.form, isShort: true))\(bestText(line))")
    }.joined(" ")
  }

  private func bestText(_ line: Chart.Line) -> Markup? {
    line.best.map { "; best checkpoint at step \(Chart.step($0.step))" }
  }

  /// True if the chart's title names its only line.
  private var isAlone: Bool { chart.lines[0].color == 0 && !chart.hasSeveralRuns }
  private func isDashed(_ line: Chart.Line) -> Bool { line.color >= Self.colors }

  private func drawing(_ line: Chart.Line) -> Markup {
    let color: Markup = "c\(line.color % Self.colors)\(isDashed(line) ? " dashed" : "")"
    let smoothed = chart.isNoisy ? line.curve.smoothed : nil
    let thinned = thin(line.curve, Int(Frame.right - Frame.left))
    var markup: Markup = """
      <path class="line \(color)\(smoothed == nil ? "" : " raw")" data-name="\(line.name)" \
      d="\(Self.path(thinned.pieces))"/>
      """
    if let smoothed { markup += "<path class=\"line \(color)\" d=\"\(Self.path(thin(smoothed, 90).pieces))\"/>" }
    for place in thinned.notFinite {
      markup += """
        <path class="not-finite" d="\(Frame.move(Frame.horizontal(place) - 4, Frame.top - 8))h8l-4 7z"><title>not \
        a finite number near step \(Chart.step(Int(x.low + place * (x.high - x.low))))</title></path>
        """
    }
    if let best = line.best, best.value.isFinite {
      let (across, down) = (Frame.horizontal(x.place(Double(best.step))), Frame.vertical(y.place(best.value)))
      markup += Frame.circle(
        "best-step \(color)", across, down, radius: 4.5,
        title: "best checkpoint: \(chart.form.text(best.value)) at step \(Chart.step(best.step))")
    }
    return markup
  }

  /// The band of one standard deviation about a line; nil if the line has none.
  private func band(_ line: Chart.Line) -> Markup? {
    let bounds = Self.bounds(line)
    guard bounds.count > 1 else { return nil }
    // One point per column of pixels, with the widest bounds in it.
    var columns: [(x: Double, low: Double, high: Double)] = []
    var number = -1
    for bound in bounds {
      let place = x.place(Double(bound.step))
      let (low, high) = (y.place(bound.low), y.place(bound.high))
      if Int(place * 180) != number {
        columns.append((place, low, high))
        number = Int(place * 180)
      } else {
        let last = columns.count - 1
        columns[last] = (columns[last].x, min(columns[last].low, low), max(columns[last].high, high))
      }
    }
    let upper = columns.map { Thinning.Point(x: $0.x, y: $0.high) }
    let lower = columns.reversed().map { Thinning.Point(x: $0.x, y: $0.low) }
    return "<path class=\"band c\(line.color % Self.colors)\" d=\"\(Self.path([upper + lower]))z\"/>"
  }

  private static func bounds(_ line: Chart.Line) -> [(step: Int, low: Double, high: Double)] {
    guard let deviation = line.deviation else { return [] }
    // The band of a figure that is never negative ends at zero.
    let least = line.curve.finite.contains { $0.value < 0 } ? -.infinity : 0.0
    return line.curve.steps.indices.compactMap { at in
      guard let value = line.curve.values[at], let spread = deviation.values[at], (value - spread).isFinite,
        (value + spread).isFinite
      else { return nil }
      return (line.curve.steps[at], max(value - spread, least), value + spread)
    }
  }

  private func thin(_ curve: Curve, _ columns: Int) -> Thinning {
    Thinning(curve, columns: columns, x: { x.place(Double($0)) }, y: y.place)
  }

  private static let area = "\(Frame.left) \(Frame.top) \(Frame.right) \(Frame.bottom)"

  /// Draws a piece of one point as a dot: a line of no length with round ends.
  private static func path(_ pieces: [[Thinning.Point]]) -> Markup {
    var path = ""
    for piece in pieces {
      for (at, point) in piece.enumerated() {
        let (across, down) = (Frame.horizontal(point.x), Frame.vertical(point.y))
        path += "\(at == 0 ? "M" : "L")\(Frame.text(across).text) \(Frame.text(down).text)"
      }
      if piece.count == 1 { path += "h0" }
    }
    return Markup(trusted: path)
  }

  /// A number for the script, with all its digits.
  private static func value(_ value: Double) -> String { "\(value)" }
}
