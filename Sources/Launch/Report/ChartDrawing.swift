import Foundation

/// A chart as SVG within a figure. It is readable without a script; the script adds the values under the pointer.
struct ChartDrawing {
  /// Sizes are in units of the drawing; a unit is about a pixel.
  private static let (width, height) = (420.0, 234.0)
  private static let (left, right) = (50.0, 408.0)
  private static let (top, bottom) = (12.0, 196.0)
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
    var body: Markup = ""
    for tick in y.ticks {
      let at = Self.vertical(y.place(tick.value))
      body += """
        <path class="grid" d="\(Self.move(Self.left, at))H\(Self.text(Self.right))"/>\
        <text x="\(Self.text(Self.left - 7))" y="\(Self.text(at + 4))" text-anchor="end">\(tick.label)</text>
        """
    }
    for tick in x.ticks {
      let at = Self.horizontal(x.place(tick.value))
      body += """
        <path class="tick" d="\(Self.move(at, Self.bottom))v4"/>\
        <text x="\(Self.text(at))" y="\(Self.text(Self.bottom + 17))" text-anchor="middle">\(tick.label)</text>
        """
    }
    body += """
      <path class="axis" d="\(Self.move(Self.left, Self.bottom))H\(Self.text(Self.right))"/>\
      <text x="\(Self.text((Self.left + Self.right) / 2))" y="\(Self.text(Self.height - 1))" \
      text-anchor="middle">step</text>
      """
    for start in starts {
      let at = Self.horizontal(x.place(Double(start)))
      body += "<path class=\"start\" d=\"\(Self.move(at, Self.top))V\(Self.text(Self.bottom))\"/>"
    }
    for line in chart.lines { if let band = band(line) { body += band } }
    for line in chart.lines { body += drawing(line) }
    return """
      <figure class="chart"><h4 id="chart-\(number)">\(chart.title)</h4>
      <p class="about">\(chart.about)\(y.isLogarithmic ? "; logarithmic" : "")</p>
      <svg viewBox="0 0 \(Self.text(Self.width)) \(Self.text(Self.height))" role="img" \
      aria-labelledby="chart-\(number)" aria-describedby="values-\(number)" \
      data-steps="\(Self.value(x.low)) \(Self.value(x.high))" \
      data-values="\(Self.value(y.low)) \(Self.value(y.high))" data-log="\(y.isLogarithmic ? 1 : 0)" \
      data-form="\(chart.form.rawValue)" data-area="\(Self.area)">\(body)</svg>
      <figcaption id="values-\(number)">\(caption)</figcaption></figure>

      """
  }

  /// The name of each line and a summary of its course.
  private var caption: Markup {
    if chart.lines.count == 1, isAlone {
      return "\(chart.lines[0].curve.summary(chart.form, isShort: false))\(bestText(chart.lines[0]))"
    }
    return chart.lines.map { line in
      """
      <span class="key"><i class="swatch c\(line.color % Self.colors)\(dashes(line))"></i><bdi>\(line.name)</bdi> \
      <span class="course">\(line.curve.summary(chart.form, isShort: true))\(bestText(line))</span></span>
      """ as Markup
    }.joined(" ")
  }

  private func bestText(_ line: Chart.Line) -> Markup? {
    line.best.map { "; best checkpoint at step \(Chart.step($0.step))" }
  }

  /// True if the chart's title names its only line.
  private var isAlone: Bool { chart.lines[0].color == 0 && !chart.hasSeveralRuns }
  private func dashes(_ line: Chart.Line) -> Markup { line.color >= Self.colors ? " dashed" : "" }

  private func drawing(_ line: Chart.Line) -> Markup {
    let color: Markup = "c\(line.color % Self.colors)\(dashes(line))"
    let smoothed = chart.isNoisy ? line.curve.smoothed : nil
    let thinned = thin(line.curve, Int(Self.right - Self.left))
    var markup: Markup = """
      <path class="line \(color)\(smoothed == nil ? "" : " raw")" data-name="\(line.name)" \
      d="\(Self.path(thinned.pieces))"/>
      """
    if let smoothed { markup += "<path class=\"line \(color)\" d=\"\(Self.path(thin(smoothed, 90).pieces))\"/>" }
    for place in thinned.notFinite {
      markup += """
        <path class="not-finite" d="\(Self.move(Self.horizontal(place) - 4, Self.top - 8))h8l-4 7z"><title>not a \
        finite number near step \(Chart.step(Int(x.low + place * (x.high - x.low))))</title></path>
        """
    }
    if let best = line.best, best.value.isFinite {
      let (across, down) = (Self.horizontal(x.place(Double(best.step))), Self.vertical(y.place(best.value)))
      markup += """
        <circle class="best-step \(color)" cx="\(Self.text(across))" cy="\(Self.text(down))" r="4.5"><title>best \
        checkpoint: \(chart.form.text(best.value)) at step \(Chart.step(best.step))</title></circle>
        """
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

  private static let area = "\(left) \(top) \(right) \(bottom)"
  private static func horizontal(_ place: Double) -> Double { left + place * (right - left) }
  private static func vertical(_ place: Double) -> Double { bottom - place * (bottom - top) }
  private static func move(_ x: Double, _ y: Double) -> Markup { "M\(text(x)) \(text(y))" }

  /// Draws a piece of one point as a dot: a line of no length with round ends.
  private static func path(_ pieces: [[Thinning.Point]]) -> Markup {
    var path = ""
    for piece in pieces {
      for (at, point) in piece.enumerated() {
        path += "\(at == 0 ? "M" : "L")\(text(horizontal(point.x)).text) \(text(vertical(point.y)).text)"
      }
      if piece.count == 1 { path += "h0" }
    }
    return Markup(trusted: path)
  }

  private static func text(_ coordinate: Double) -> Markup {
    let tenths = Int((coordinate * 10).rounded())
    return Markup(trusted: tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(abs(tenths % 10))")
  }

  /// A number for the script, with all its digits.
  private static func value(_ value: Double) -> String { "\(value)" }
}
