/// What the step lines of a log say, line by line; steps rise.
struct StepTable: Sendable {
  /// A figure of a step.
  enum Figure: Hashable {
    case loss, rate, logitScale, gradientNorm, samplesPerSecond, dataWait, teacherShare, receivedBytes
    case prunedExpected, prunedTarget
    case term(String)
    case termWeight(String)
    case divergence(String)
    case divergenceDeviation(String)
    case anchorWeight(String)
    case anchorWeightDeviation(String)
  }

  /// So many figures are kept; a log of ours has a few dozen.
  static let limit = 256

  private(set) var steps: [Int] = []
  private var columns: [Figure: Column] = [:]
  /// In the order in which they came.
  private(set) var figures: [Figure] = []
  /// Whether figures were left out because there were too many.
  private(set) var isCut = false

  /// Takes a line. Where its step was done before, it was done again, and what followed does not count any more.
  ///
  /// - Returns: how many lines are superseded.
  mutating func append(_ step: Int, _ values: [(Figure, Double)]) -> Int {
    let superseded = drop(from: step)
    for (figure, value) in values {
      if columns[figure] == nil {
        guard figures.count < Self.limit else {
          isCut = true
          continue
        }
        figures.append(figure)
      }
      columns[figure, default: Column()].append(value, at: steps.count)
    }
    steps.append(step)
    return superseded
  }

  /// Forgets the lines of `step` and of those after it; returns how many there were.
  mutating func drop(from step: Int) -> Int {
    var kept = steps.count
    while kept > 0, steps[kept - 1] >= step { kept -= 1 }
    let dropped = steps.count - kept
    guard dropped > 0 else { return 0 }
    steps.removeLast(dropped)
    for figure in figures { columns[figure]?.truncate(to: kept) }
    return dropped
  }

  /// A figure over the steps; nil where no line that counts has it.
  subscript(figure: Figure) -> Curve? {
    guard let column = columns[figure], column.count > 0 else { return nil }
    return Curve(steps: steps, values: column)
  }

  /// The names of figures of a kind, such as terms, in alphabetic order.
  func names(_ kind: (Figure) -> String?) -> [String] {
    figures.filter { self[$0] != nil }.compactMap(kind).sorted()
  }
}
