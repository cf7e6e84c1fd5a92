import Foundation

/// A set of curves that are drawn together.
struct Chart {
  struct Line {
    var name: String
    var color: Int
    var curve: Curve
    var deviation: Curve?
    /// The round of the best checkpoint, which is marked on the curve.
    var best: LogEvent.Best?
  }

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
  var about: String
  var lines: [Line]
  var form = Form.number
  /// True if the curves are noisy: their trends are drawn too, and a wide range is drawn logarithmically.
  var isNoisy = false
  var isFromZero = false
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
    step.magnitude < 1000 ? "\(step)" : Chart.step(step / 1000) + "," + "\(1000 + step.magnitude % 1000)".suffix(3)
  }
}

/// An axis of a chart: it places values and chooses the labelled ones.
struct ChartAxis {
  let low: Double
  let high: Double
  let isLogarithmic: Bool
  let ticks: [(value: Double, label: String)]

  /// Makes an axis that begins and ends with a label. If it may, it is logarithmic for positive values that span a
  /// factor of thirty.
  init(over values: [Double], fromZero: Bool, mayBeLogarithmic: Bool, form: Chart.Form) {
    var (low, high) = (values.min() ?? 0, values.max() ?? 1)
    if fromZero { (low, high) = (min(low, 0), max(high, 0)) }
    if low == high {
      // A tenth of the smallest numbers is 0, and a tenth more than the largest is infinite.
      let (room, most) = (low == 0 ? 1 : max(abs(low) * 0.1, .leastNormalMagnitude), Double.greatestFiniteMagnitude)
      (low, high) = (max(low - room, -most), min(high + room, most))
    }
    isLogarithmic = mayBeLogarithmic && low > 1e-300 && high / low > 30
    if isLogarithmic {
      (self.low, self.high) = (low / 1.1, min(high, .greatestFiniteMagnitude / 2) * 1.1)
      ticks = Self.decades(self.low, self.high).map { ($0, Self.label($0, by: $0, form)) }
      return
    }
    let step = Self.roundStep(low, high, about: 4)
    if let step {
      (low, high) = (floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step)
      let most = max(abs(low), abs(high))
      ticks = Self.multiples(of: step, low, high).map { ($0, Self.label($0, by: step, upTo: most, form)) }
    } else {
      ticks = [low, high].map { ($0, Self.label($0, by: $0, form)) }
    }
    (self.low, self.high) = (low, high)
  }

  init(steps: ClosedRange<Int>) {
    isLogarithmic = false
    low = Double(steps.lowerBound)
    high = Double(max(steps.upperBound, steps.lowerBound + 1))
    let step = max(1, Self.roundStep(low, high, about: 5) ?? high)
    let last = high
    ticks = Self.multiples(of: step, low, high).map { ($0, Self.label($0, by: step, upTo: last, .number)) }
  }

  /// The position of a value on the axis, 0 to 1.
  func place(_ value: Double) -> Double {
    let span = high - low
    let inside = span.isFinite ? (value - low) / span : (value / 2 - low / 2) / (high / 2 - low / 2)
    let place = isLogarithmic ? (log(value) - log(low)) / (log(high) - log(low)) : inside
    return min(max(place, 0), 1)
  }

  /// A step between labels, 1, 2 or 5 · 10ⁿ, of which about `count` fit; nil if the numbers are too extreme.
  private static func roundStep(_ low: Double, _ high: Double, about count: Int) -> Double? {
    let raw = (high / 2 - low / 2) / Double(count) * 2
    guard raw > 1e-300, raw < 1e300, max(abs(low), abs(high)) / raw < 1e9 else { return nil }
    let power = pow(10, floor(log10(raw)))
    return power * ([1.0, 2, 5].first { $0 * power >= raw * 0.8 } ?? 10)
  }

  private static func multiples(of step: Double, _ low: Double, _ high: Double) -> [Double] {
    stride(from: ceil(low / step - 1e-9), through: floor(high / step + 1e-9), by: 1).map { $0 * step }
  }

  /// The powers of ten in a range: of a few, the double and fivefold too, of many, only some.
  private static func decades(_ low: Double, _ high: Double) -> [Double] {
    let (first, last) = (Int(floor(log10(low))), Int(ceil(log10(high))))
    let factors: [Double] = high / low < 300 ? [1, 2, 5] : [1]
    return stride(from: first, through: last, by: max(1, (last - first) / 5)).flatMap { power in
      factors.map { $0 * pow(10, Double(power)) }
    }.filter { $0 >= low && $0 <= high }
  }

  /// The label of a number among others `step` apart, up to `largest`: `0.25`, `1500`, `20k`, `5e-4`, `40 %`.
  static func label(_ value: Double, by step: Double, upTo largest: Double? = nil, _ form: Chart.Form) -> String {
    let largest = largest ?? abs(value)
    if form == .share, largest < 1e6 { return label(100 * value, by: 100 * step, upTo: 100 * largest, .number) + " %" }
    if value == 0 { return "0" }
    if largest >= 1e15 || largest < 1e-3 { return Chart.Form.number.text(value) }
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
    let (unit, name) = largest >= 1e4 ? units.first { largest >= $0.0 } ?? (1, "") : (1, "")
    let digits = max(0, Int(ceil(-log10(abs(step) / unit) - 1e-9)))
    return Figures.fixed(value / unit, min(digits, 9)) + name
  }
}

/// The points of a curve that can be seen on a screen: in each column of pixels the first, the lowest, the highest and
/// the last point. No spike is lost, and a log of a million lines draws at most a few thousand points.
struct Thinning {
  struct Point: Equatable {
    var x: Double
    var y: Double
  }

  /// The curve in pieces, interrupted wherever it has no finite value.
  let pieces: [[Point]]
  /// The positions of values that are not finite, at most one per column.
  private(set) var notFinite: [Double] = []

  /// Thins a curve to this many columns of pixels; `x` and `y` return the positions of a step and of a finite value.
  init(_ curve: Curve, columns: Int, x: (Int) -> Double, y: (Double) -> Double) {
    var (pieces, piece, column, number) = ([[Point]](), [Point](), Column(), -1)
    func flush() {
      piece += column.points
      guard column.isBroken, !piece.isEmpty else { return }
      pieces.append(piece)
      piece = []
    }
    for line in curve.steps.indices {
      let x = x(curve.steps[line])
      let own = min(Int(x * Double(columns)), columns - 1)
      if own != number {
        flush()
        column = Column()
        number = own
      }
      guard let value = curve.values[line] else {
        column.isBroken = true
        continue
      }
      if value.isFinite {
        column.add(Point(x: x, y: y(value)))
      } else {
        column.isBroken = true
        if notFinite.last.map({ min(Int($0 * Double(columns)), columns - 1) != own }) ?? true { notFinite.append(x) }
      }
    }
    flush()
    self.pieces = piece.isEmpty ? pieces : pieces + [piece]
  }

  private struct Column {
    private var first: Point?
    private var lowest: Point?
    private var highest: Point?
    private var last: Point?
    var isBroken = false

    mutating func add(_ point: Point) {
      first = first ?? point
      if lowest.map({ point.y < $0.y }) ?? true { lowest = point }
      if highest.map({ point.y > $0.y }) ?? true { highest = point }
      last = point
    }

    /// The kept points in their order along the curve, each once.
    var points: [Point] {
      guard let first, let lowest, let highest, let last else { return [] }
      let rest = lowest.x <= highest.x ? [lowest, highest, last] : [highest, lowest, last]
      return rest.reduce(into: [first]) { if $0.last != $1 { $0.append($1) } }
    }
  }
}

extension Curve {
  /// The mean of the finite values within a fiftieth of the curve on either side; nil below fifty steps.
  var smoothed: Curve? {
    guard steps.count >= 50 else { return nil }
    let reach = steps.count / 50
    let width = 2 * reach + 1
    // Sums that begin or end at the bounds of blocks as wide as a window, so that each window is the sum of two of
    // them. Differences of running sums would be simpler, but would lose all digits of the values after a spike.
    var toHere = [(sum: Double, count: Int)](repeating: (0, 0), count: steps.count)
    var fromHere = toHere
    func scaled(_ line: Int) -> (sum: Double, count: Int) {
      values[line].map { $0.isFinite ? ($0 / Double(width), 1) : (0, 0) } ?? (0, 0)
    }
    for line in steps.indices {
      let (own, before) = (scaled(line), line % width == 0 ? (0, 0) : toHere[line - 1])
      toHere[line] = (before.0 + own.sum, before.1 + own.count)
    }
    for line in steps.indices.reversed() {
      let isLast = line % width == width - 1 || line == steps.count - 1
      let (own, after) = (scaled(line), isLast ? (0, 0) : fromHere[line + 1])
      fromHere[line] = (after.0 + own.sum, after.1 + own.count)
    }
    var means = Column()
    for line in steps.indices where values[line]?.isFinite == true {
      let (low, high) = (max(0, line - reach), min(steps.count - 1, line + reach))
      let (left, right) = (fromHere[low], toHere[high])
      let whole =
        if low % width == 0 { right } else if low / width == high / width { left } else {
          (sum: left.sum + right.sum, count: left.count + right.count)
        }
      means.append(whole.sum / Double(whole.count) * Double(width), at: line)
    }
    return Curve(steps: steps, values: means)
  }
}
