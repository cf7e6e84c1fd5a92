import Foundation

/// The content of a run's log: the steps that count, and the other events.
struct RunHistory: Sendable {
  struct Start: Sendable {
    var step: Int
    var ranks: Int?
    var version: String?
    var changes: [String]
    var time: String?
  }

  struct SavedCheckpoint: Sendable {
    var step: Int
    /// The name of the folder, without the path at which it was written.
    var folder: String
    var blockedSeconds: Double?
    var writtenSeconds: Double?
  }

  /// Predicted and measured bytes of the rank that held most, and seconds of a step.
  struct Outcome: Sendable {
    var memory: (predicted: Double, measured: Double)
    var stepSeconds: (predicted: Double, measured: Double)
  }

  var table = StepTable()
  var starts: [Start] = []
  var notes: [LogEvent.Note] = []
  var checkpoints: [SavedCheckpoint] = []
  /// The rounds of each evaluation by rising step; evaluations in the order in which they first came.
  var evaluations: [(name: String, rounds: [LogEvent.Evaluation])] = []
  /// The best round of evaluation; nil if the run keeps no best checkpoint, or none of its rounds counts.
  var best: LogEvent.Best?
  var facts: [LogEvent.Header.Fact] = []
  var outcome: Outcome?
  /// The number of steps in the run, and of the passes over the data, according to the last step's line.
  var plannedSteps: Int?
  var epoch: Double?
  /// Seconds from each start to the last line before the next one, summed over the starts.
  var seconds = 0.0
  var lastTime: String?
  /// The lines in the file without the empty ones, those that could not be understood, and the first of these, from 1.
  var lines = 0
  var unreadable = 0
  var firstUnreadable: Int?
  var isTorn = false
  /// The number of lines of steps that were done again later.
  var superseded = 0
  var lastStep: Int { max(table.steps.last ?? 0, evaluations.compactMap { $0.rounds.last?.step }.max() ?? 0) }
  func values(_ figure: StepTable.Figure) -> [Double] { table[figure]?.finite.map(\.value) ?? [] }

  /// Returns the history without the evaluations after `step`. If the run went on, its time is that of more steps, and
  /// left out.
  func upTo(_ step: Int) -> RunHistory {
    var earlier = self
    if lastStep > step { earlier.seconds = 0 }
    for index in evaluations.indices { earlier.evaluations[index].rounds.removeAll { $0.step > step } }
    earlier.evaluations.removeAll { $0.rounds.isEmpty }
    return earlier
  }

  /// The rounds of an evaluation as one curve per figure, sorted by the figures' names.
  func curves(of evaluation: String) -> [(name: String, curve: Curve)] {
    guard let rounds = evaluations.first(where: { $0.name == evaluation })?.rounds else { return [] }
    let names = Set(rounds.flatMap(\.figures.keys)).sorted { $0.compare($1, options: .numeric) == .orderedAscending }
    let steps = rounds.map(\.step)
    return names.map { name in (name, Curve(steps: steps, values: Column(rounds.map { $0.figures[name] }))) }
  }
}

/// The figures of a log's step lines, line by line; steps rise.
struct StepTable: Sendable {
  enum Figure: Hashable {
    case loss, rate, logitScale, gradientNorm, samplesPerSecond, dataWait, teacherShare, receivedBytes
    case prunedExpected, prunedTarget
    case term(String)
    case termWeight(String)
    case termGradient(String)
    case divergence(String)
    case divergenceDeviation(String)
    case anchorWeight(String)
    case anchorWeightDeviation(String)
    case anchorScale(String)
  }

  /// The largest number of figures kept; a log of `kinship train` has a few dozen.
  static let limit = 256
  private(set) var steps: [Int] = []
  private var columns: [Figure: Column] = [:]
  private(set) var figures: [Figure] = []
  private(set) var isCut = false

  /// Appends a line, and drops the lines of its step and of later steps. Returns the number of dropped lines.
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

  /// Drops the lines of `step` and of the steps after it. Returns their number.
  mutating func drop(from step: Int) -> Int {
    var kept = steps.count
    while kept > 0, steps[kept - 1] >= step { kept -= 1 }
    let dropped = steps.count - kept
    guard dropped > 0 else { return 0 }
    steps.removeLast(dropped)
    for figure in figures { columns[figure]?.truncate(to: kept) }
    return dropped
  }

  /// A figure over the steps; nil if no line that counts has it.
  subscript(figure: Figure) -> Curve? {
    guard let column = columns[figure], column.count > 0 else { return nil }
    return Curve(steps: steps, values: column)
  }

  /// The names of all figures of a kind, such as terms, in alphabetic order.
  func names(_ kind: (Figure) -> String?) -> [String] { figures.filter { self[$0] != nil }.compactMap(kind).sorted() }
}

/// The values of one figure, line by line. A line may lack the figure, and a value need not be finite.
struct Column: Sendable {
  /// Stands for a missing value: a NaN that no text is read as.
  private static let absent = Double(nan: 0x5AB5E, signaling: false)
  private var values: [Double] = []
  init(_ values: [Double?] = []) { self.values = values.map { $0 ?? Self.absent } }
  var count: Int { values.count }

  /// The value of a line; nil if the line has none.
  subscript(line: Int) -> Double? {
    guard line < values.count, values[line].bitPattern != Self.absent.bitPattern else { return nil }
    return values[line]
  }

  /// Appends the value of a line beyond all others; one that the line has already stays.
  mutating func append(_ value: Double, at line: Int) {
    guard values.count <= line else { return }
    while values.count < line { values.append(Self.absent) }
    values.append(value)
  }

  mutating func truncate(to count: Int) { if values.count > count { values.removeLast(values.count - count) } }
}

/// A figure over the steps of a run; steps rise.
struct Curve: Sendable {
  var steps: [Int]
  var values: Column

  var finite: [(step: Int, value: Double)] {
    steps.indices.compactMap { line in
      guard let value = values[line], value.isFinite else { return nil }
      return (steps[line], value)
    }
  }

  var notFinite: Int { steps.indices.count { values[$0].map { !$0.isFinite } ?? false } }
  /// The curve without the steps at which it has no value.
  var measured: Curve {
    let lines = steps.indices.filter { values[$0] != nil }
    return Curve(steps: lines.map { steps[$0] }, values: Column(lines.map { values[$0] }))
  }
  var isEmpty: Bool { !steps.indices.contains { values[$0] != nil } }
}
