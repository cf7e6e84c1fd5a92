/// A chart of a page: a figure with its title, what it shows, the drawing, and the names of what is drawn.
struct ChartFigure {
  /// The chart's number on its page, by which the drawing is tied to its title and caption.
  let number: Int
  let title: String
  let about: Markup
  /// Further attributes of the drawing, each with a space before it.
  var attributes: Markup = ""
  let body: Markup
  let caption: Markup

  var markup: Markup {
    """
    <figure class="chart"><h4 id="chart-\(number)">\(title)</h4>
    <p class="about">\(about)</p>
    <svg viewBox="0 0 \(ChartFrame.text(ChartFrame.width)) \(ChartFrame.text(ChartFrame.height))" role="img" \
    aria-labelledby="chart-\(number)" aria-describedby="values-\(number)"\(attributes)>\(body)</svg>
    <figcaption id="values-\(number)">\(caption)</figcaption></figure>

    """
  }

  /// An entry of the caption: a name with its colour, dashed where the colour is another one's too, and its values.
  static func key(_ name: String, color: Int, isDashed: Bool, _ values: Markup) -> Markup {
    """
    <span class="key"><i class="swatch c\(color % ChartDrawing.colors)\(isDashed ? " dashed" : "")"></i>\
    <bdi>\(name)</bdi> <span class="course">\(values)</span></span>
    """
  }
}
