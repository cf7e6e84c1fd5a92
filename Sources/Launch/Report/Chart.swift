import Foundation

/// A set of curves that are drawn together.
struct Chart {
  struct Line {
    var name: String
    /// The index of the line's colour in the palette.
    var color: Int
    var curve: Curve
    /// The standard deviation about the curve; nil if none is known.
    var deviation: Curve?
  }

  /// The form in which the chart's numbers are written.
  enum Form: String {
    case number
    /// A share from 0 to 1, written in percent.
    case share

    /// A value to four digits: `0.03125`, `1,574`, `17.53 M`, `2.5e-07`; `12.5 %`.
    func text(_ value: Double) -> String {
      guard value.isFinite else { return "\(value)" }
      if self == .share { return Figures.fixed(100 * value, 1) + " %" }
      switch abs(value) {
      case 1000..<1e6: return Chart.step(Int(value.rounded()))
      case 1e6..<1e9: return Figures.significant(value / 1e6, 4) + " M"
      case 1e9..<1e15: return Figures.significant(value / 1e9, 4) + " G"
      default: return Figures.significant(value, 4).lowercased()
      }
    }
  }

  var title: String
  /// A few words on what the curves show.
  var about: String
  var lines: [Line]
  var form = Form.number
  /// True if the curves are noisy: their trends are drawn too, and a wide range is drawn logarithmically.
  var isNoisy = false
  /// True if the vertical axis includes zero.
  var isFromZero = false
  /// True if each line belongs to a different run.
  var hasSeveralRuns = false

  /// Keeps the lines that have something to draw. Returns nil if there are none.
  init?(_ title: String, _ about: String, _ lines: [Line], form: Form = .number) {
    let drawn = lines.filter { !$0.curve.isEmpty }
    guard !drawn.isEmpty else { return nil }
    (self.title, self.about, self.lines, self.form) = (title, about, drawn, form)
  }
}

extension Curve {
  /// Sums up the curve in words: its last, lowest and highest values. A short text leaves out the steps.
  func summary(_ form: Chart.Form, isShort: Bool) -> String {
    let finite = finite
    guard let last = finite.last, let low = finite.min(by: { $0.value < $1.value }),
      let high = finite.max(by: { $0.value < $1.value })
    else { return "never a finite number" }
    func at(_ point: (step: Int, value: Double)) -> String {
      form.text(point.value) + (isShort ? "" : " at step \(Chart.step(point.step))")
    }
    let texts = (form.text(low.value), form.text(last.value), form.text(high.value))
    var text =
      switch texts {
      case (texts.1, _, texts.1): texts.1
      case (texts.1, _, _): "last and lowest \(texts.1), highest \(at(high))"
      case (_, _, texts.1): "last and highest \(texts.1), lowest \(at(low))"
      default: "last \(texts.1), lowest \(at(low)), highest \(at(high))"
      }
    if notFinite > 0 { text += ", \(notFinite) not finite" }
    return text
  }
}

extension Chart {
  /// A step with its digits grouped: `1,250`.
  static func step(_ step: Int) -> String {
    if step < 0 { return "-" + Chart.step(-step) }
    var digits = String(step)
    var groups: [String] = []
    while digits.count > 3 {
      groups.insert(String(digits.suffix(3)), at: 0)
      digits.removeLast(3)
    }
    return ([digits] + groups).joined(separator: ",")
  }
}
