/// Points that are drawn against two figures, such as accuracies against latencies.
struct ScatterChart {
  struct Point {
    var name: String
    var color: Int
    /// True for what is drawn as a ring, so that it stands out from the others.
    var isHollow: Bool
    /// Both are finite.
    var x: Double
    var y: Double
  }

  var title: String
  var about: String
  /// What the horizontal axis measures; values are in this unit.
  var unit: String
  var points: [Point]
  /// The form of the vertical axis's values.
  var form = Chart.Form.share
}

/// A scatter chart as SVG, for a page or for a file.
struct ScatterDrawing {
  private let chart: ScatterChart
  private let frame: ChartFrame

  init(_ chart: ScatterChart) {
    self.chart = chart
    let across = chart.points.map(\.x)
    // A wide range is drawn logarithmically; where it is narrow, distances from zero can be compared.
    let isWide = (across.min() ?? 1) * 30 < (across.max() ?? 1)
    frame = ChartFrame(
      x: ChartAxis(over: across, fromZero: !isWide, mayBeLogarithmic: isWide, form: .number),
      y: ChartAxis(over: chart.points.map(\.y), fromZero: false, mayBeLogarithmic: false, form: chart.form),
      unit: chart.unit)
  }

  private var about: Markup { "\(chart.about)\(frame.x.isLogarithmic ? "; latencies logarithmic" : "")" }

  /// A figure of a page, with its number there.
  func markup(number: Int) -> Markup {
    let keys = chart.points.map { point in
      ChartFigure.key(point.name, color: point.color, isDashed: point.isHollow, "\(values(point))")
    }
    return ChartFigure(number: number, title: chart.title, about: about, body: body, caption: keys.joined(" ")).markup
  }

  private func values(_ point: ScatterChart.Point) -> String {
    "\(chart.form.text(point.y)) at \(Figures.significant(point.x, 3)) ms"
  }

  private var body: Markup {
    var body = frame.axes
    for point in chart.points {
      let across = ChartFrame.horizontal(frame.x.place(point.x))
      let down = ChartFrame.vertical(frame.y.place(point.y))
      body += ChartFrame.circle(Self.kind(point), across, down, radius: 5, title: "\(point.name): \(values(point))")
    }
    return body
  }

  /// The classes of a point, which decide how it is drawn.
  private static func kind(_ point: ScatterChart.Point) -> Markup {
    "point\(point.isHollow ? " hollow" : "") c\(point.color % ChartDrawing.colors)"
  }

  // MARK: - Files

  /// The lines of the legend below a chart in a file, and the space above it for its title, in units of the drawing.
  private static let (line, head) = (17.0, 44.0)
  private var height: Double { Self.head + ChartFrame.height + Self.line * Double(chart.points.count) + 24 }

  /// Charts below one another as an SVG file, which needs no style sheet: many viewers know no variables.
  static func document(_ charts: [ScatterChart]) -> String {
    var body: Markup = ""
    var top = 0.0
    for drawing in charts.map(ScatterDrawing.init) {
      body += "<g transform=\"translate(0 \(ChartFrame.text(top)))\">\(drawing.panel)</g>\n"
      top += drawing.height
    }
    let (width, height) = (ChartFrame.text(ChartFrame.width), ChartFrame.text(top))
    let colors = ReportStyle.colors.enumerated().map { number, color in
      Markup(trusted: ".c\(number) { fill: \(color); stroke: \(color); } ")
    }
    let svg: Markup = """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(width) \(height)" width="\(width)" height="\(height)" \
      font-family="sans-serif" font-size="11.5" fill="#565d66">
      <style>\(colors)
      .hollow { fill: none; } .point { stroke-width: 2.5; }
      .grid, .axis, .tick { fill: none; stroke: #565d66; } .grid { stroke: #d5dae0; }
      .title { font-size: 14px; font-weight: bold; fill: #16191d; }</style>
      <path fill="#ffffff" d="M0 0H\(width)V\(height)H0z"/>
      \(body)</svg>

      """
    return svg.text
  }

  /// The chart with its title above it and its legend below.
  private var panel: Markup {
    var panel: Markup = """
      <text class="title" x="8" y="18">\(chart.title)</text><text x="8" y="34">\(about)</text>\
      <g transform="translate(0 \(ChartFrame.text(Self.head)))">\(body)</g>
      """
    for (row, point) in chart.points.enumerated() {
      let down = Self.head + ChartFrame.height + Self.line * Double(row + 1)
      panel += ChartFrame.circle(Self.kind(point), 16, down - 4, radius: 4)
      panel += "<text x=\"28\" y=\"\(ChartFrame.text(down))\">\(point.name): \(values(point))</text>"
    }
    return panel
  }
}
