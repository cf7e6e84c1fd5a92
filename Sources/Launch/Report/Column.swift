/// The values of one figure by the lines of a log. A line may lack the figure, and a value need not be a finite number.
struct Column: Sendable {
  /// Stands for a value that is not there: a NaN that no text is read as.
  private static let absent = Double(nan: 0x5AB5E, signaling: false)

  private var values: [Double] = []

  init() {}

  init(_ values: [Double?]) { self.values = values.map { $0 ?? Self.absent } }

  var count: Int { values.count }

  /// The value of a line; nil where the line has none.
  subscript(line: Int) -> Double? {
    guard line < values.count, values[line].bitPattern != Self.absent.bitPattern else { return nil }
    return values[line]
  }

  /// Takes the value of a line that lies beyond all that are there; the first value of a line counts.
  mutating func append(_ value: Double, at line: Int) {
    guard values.count <= line else { return }
    while values.count < line { values.append(Self.absent) }
    values.append(value)
  }

  /// Forgets the lines from `count` on.
  mutating func truncate(to count: Int) { if values.count > count { values.removeLast(values.count - count) } }
}

/// A figure over the steps of a run. Steps rise.
struct Curve: Sendable {
  var steps: [Int]
  var values: Column

  /// The finite values with their steps.
  var finite: [(step: Int, value: Double)] {
    steps.indices.compactMap { line in
      guard let value = values[line], value.isFinite else { return nil }
      return (steps[line], value)
    }
  }

  /// How many values are not finite numbers.
  var notFinite: Int { steps.indices.count { values[$0].map { !$0.isFinite } ?? false } }

  /// Whether there is anything to draw.
  var isEmpty: Bool { !steps.indices.contains { values[$0] != nil } }
}
