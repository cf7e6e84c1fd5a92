import Foundation

/// What a run's log says: the steps that count, and what else has happened.
struct RunHistory: Sendable {
  struct Start: Sendable {
    var step: Int
    var ranks: Int?
    var version: String?
    var changes: [String]
    var time: String?
  }

  struct Note: Sendable {
    var step: Int
    var text: String
  }

  struct SavedCheckpoint: Sendable {
    var step: Int
    var folder: String
    var blockedSeconds: Double?
    var writtenSeconds: Double?
  }

  struct Evaluation: Sendable {
    var step: Int
    var figures: [String: Double]
  }

  /// What was predicted, and what was measured in the end.
  struct Outcome: Sendable {
    var memory: (predicted: Double, measured: Double)
    var stepSeconds: (predicted: Double, measured: Double)
  }

  var table = StepTable()
  var starts: [Start] = []
  var notes: [Note] = []
  var checkpoints: [SavedCheckpoint] = []
  /// By name, in the order in which they came; each in the order of steps.
  var evaluations: [(name: String, rounds: [Evaluation])] = []
  /// What the header of the last start says.
  var facts: [RunHeader.Fact] = []
  var outcome: Outcome?
  /// How many steps and passes over the data the run has, as the last line says.
  var plannedSteps: Int?
  var epoch: Double?
  /// Seconds from each start to the last line before the next one.
  var seconds = 0.0
  var lastTime: String?

  /// What is wrong with the file.
  var lines = 0
  var unreadable = 0
  var firstUnreadable: Int?
  var isTorn = false
  /// Lines of steps that were done again later.
  var superseded = 0

  /// The last step that counts.
  var lastStep: Int { max(table.steps.last ?? 0, evaluations.compactMap { $0.rounds.last?.step }.max() ?? 0) }

  /// The rounds of an evaluation as curves, by the name of the figure.
  func curves(of evaluation: String) -> [(name: String, curve: Curve)] {
    guard let rounds = evaluations.first(where: { $0.name == evaluation })?.rounds else { return [] }
    let names = Set(rounds.flatMap(\.figures.keys)).sorted { $0.compare($1, options: .numeric) == .orderedAscending }
    return names.map { name in
      (name, Curve(steps: rounds.map(\.step), values: Column(rounds.map { $0.figures[name] })))
    }
  }
}
