/// The area of a chart with its axes. Sizes are in units of the drawing; a unit is about a pixel.
struct ChartFrame {
  static let (width, height) = (420.0, 234.0)
  static let (left, right) = (50.0, 408.0)
  static let (top, bottom) = (12.0, 196.0)
  let x: ChartAxis
  let y: ChartAxis
  /// What the horizontal axis counts or measures.
  let unit: String

  /// The axes with their labels, and a line across the chart at each label of the vertical one.
  var axes: Markup {
    var axes: Markup = ""
    for tick in y.ticks {
      let at = Self.vertical(y.place(tick.value))
      axes += """
        <path class="grid" d="\(Self.move(Self.left, at))H\(Self.text(Self.right))"/>\
        <text x="\(Self.text(Self.left - 7))" y="\(Self.text(at + 4))" text-anchor="end">\(tick.label)</text>
        """
    }
    for tick in x.ticks {
      let at = Self.horizontal(x.place(tick.value))
      axes += """
        <path class="tick" d="\(Self.move(at, Self.bottom))v4"/>\
        <text x="\(Self.text(at))" y="\(Self.text(Self.bottom + 17))" text-anchor="middle">\(tick.label)</text>
        """
    }
    axes += """
      <path class="axis" d="\(Self.move(Self.left, Self.bottom))H\(Self.text(Self.right))"/>\
      <text x="\(Self.text((Self.left + Self.right) / 2))" y="\(Self.text(Self.height - 1))" \
      text-anchor="middle">\(unit)</text>
      """
    return axes
  }

  /// The coordinates of a place on an axis, 0 to 1.
  static func horizontal(_ place: Double) -> Double { left + place * (right - left) }
  static func vertical(_ place: Double) -> Double { bottom - place * (bottom - top) }

  /// The beginning of a path at a point.
  static func move(_ x: Double, _ y: Double) -> Markup { "M\(text(x)) \(text(y))" }

  /// A circle about a point, with the text that appears under the pointer, if there is one.
  static func circle(_ kind: Markup, _ x: Double, _ y: Double, radius: Double, title: Markup? = nil) -> Markup {
    let start: Markup = "<circle class=\"\(kind)\" cx=\"\(text(x))\" cy=\"\(text(y))\" r=\"\(text(radius))\""
    guard let title else { return "\(start)/>" }
    return "\(start)><title>\(title)</title></circle>"
  }

  /// A coordinate to a tenth of a unit.
  static func text(_ coordinate: Double) -> Markup {
    let tenths = Int((coordinate * 10).rounded())
    return Markup(trusted: tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(abs(tenths % 10))")
  }
}
