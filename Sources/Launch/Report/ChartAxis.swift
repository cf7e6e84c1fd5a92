import Foundation

/// An axis of a chart: it places values and chooses the labelled ones.
struct ChartAxis {
  let low: Double
  let high: Double
  let isLogarithmic: Bool
  /// The labelled values with their labels, in rising order.
  let ticks: [(value: Double, label: String)]

  /// Makes an axis over finite values, extended a little so that it begins and ends with a label.
  ///
  /// - Parameters:
  ///   - fromZero: true if the axis includes zero wherever the values are.
  ///   - mayBeLogarithmic: true if the axis becomes logarithmic when all values are positive and span more than a
  ///     factor of thirty.
  init(over values: [Double], fromZero: Bool, mayBeLogarithmic: Bool, form: Chart.Form) {
    var (low, high) = (values.min() ?? 0, values.max() ?? 1)
    if fromZero { (low, high) = (min(low, 0), max(high, 0)) }
    if low == high {
      let room = low == 0 ? 1 : abs(low) * 0.1
      (low, high) = (low - room, high + room)
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
      ticks = Self.multiples(of: step, low, high).map {
        ($0, Self.label($0, by: step, upTo: max(abs(low), abs(high)), form))
      }
    } else {
      ticks = [low, high].map { ($0, Self.label($0, by: $0, form)) }
    }
    (self.low, self.high) = (low, high)
  }

  /// Makes an axis of steps.
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
    let place =
      if isLogarithmic {
        (log(value) - log(low)) / (log(high) - log(low))
      } else if span.isFinite {
        (value - low) / span
      } else {
        (value / 2 - low / 2) / (high / 2 - low / 2)
      }
    return min(max(place, 0), 1)
  }

  /// A step between labels, 1, 2 or 5 times a power of ten, of which about `count` fit into the range. Returns nil if
  /// the numbers are too large, too small or too close to each other.
  private static func roundStep(_ low: Double, _ high: Double, about count: Int) -> Double? {
    let raw = (high / 2 - low / 2) / Double(count) * 2
    guard raw > 1e-300, raw < 1e300, max(abs(low), abs(high)) / raw < 1e9 else { return nil }
    let power = pow(10, floor(log10(raw)))
    return power * ([1.0, 2, 5].first { $0 * power >= raw * 0.8 } ?? 10)
  }

  private static func multiples(of step: Double, _ low: Double, _ high: Double) -> [Double] {
    stride(from: ceil(low / step - 1e-9), through: floor(high / step + 1e-9), by: 1).map { $0 * step }
  }

  /// The powers of ten in a range. If there are few, their double and fivefold are added; if there are many, some are
  /// left out.
  private static func decades(_ low: Double, _ high: Double) -> [Double] {
    let (first, last) = (Int(floor(log10(low))), Int(ceil(log10(high))))
    let factors: [Double] = high / low < 300 ? [1, 2, 5] : [1]
    return stride(from: first, through: last, by: max(1, (last - first) / 5)).flatMap { power in
      factors.map { $0 * pow(10, Double(power)) }
    }
    .filter { $0 >= low && $0 <= high }
  }

  /// The label of a number on an axis whose numbers lie `step` apart, none larger than `largest`: `0.25`, `1500`,
  /// `20k`, `5e-4`, `40 %`.
  static func label(_ value: Double, by step: Double, upTo largest: Double? = nil, _ form: Chart.Form) -> String {
    let largest = largest ?? abs(value)
    if form == .share, largest < 1e6 {
      return label(100 * value, by: 100 * step, upTo: 100 * largest, .number) + " %"
    }
    if value == 0 { return "0" }
    if largest >= 1e15 || largest < 1e-3 { return Chart.Form.number.text(value) }
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
    let (unit, name) = largest >= 1e4 ? units.first { largest >= $0.0 } ?? (1, "") : (1, "")
    let digits = max(0, Int(ceil(-log10(abs(step) / unit) - 1e-9)))
    return Figures.fixed(value / unit, min(digits, 9)) + name
  }
}
