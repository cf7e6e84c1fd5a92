import Dist
import Model
import Tensor

/// A loss or gradient that is not a finite number.
struct NonFiniteError: ExitCoded, CustomStringConvertible {
  var step: Int
  let report: ObjectiveReport
  let norm: Double
  /// The ranks whose own features or gradients are not finite, with what is not.
  let origins: [String]
  /// Why the run does not go on in spite of its policy.
  var limit: String?

  var isShared: Bool { true }
  var status: ExitStatus { .notFinite }
  var description: String {
    let advice = "lower optimizer.learning_rate or set optimizer.clip_norm, and resume from the last checkpoint"
    return "\(finding); \(limit.map { "\($0); " } ?? "")\(advice)"
  }

  /// What was found, and where.
  var finding: String {
    let place =
      origins.isEmpty
      ? "no rank's own numbers are at fault: the sum over ranks overflowed" : origins.joined(separator: "; ")
    let terms = report.terms.filter { !$0.value.isFinite }.map { "\($0.name) \($0.value)" }
    let loss = "\(report.total)" + (terms.isEmpty ? "" : " (\(terms.joined(separator: ", ")))")
    return "step \(step): loss \(loss), gradient norm \(norm): not finite (\(place))"
  }
}

/// How often in a row a run has met what is not finite; the same on every rank, since every rank finds the same.
struct NonFiniteCount {
  let config: NonFiniteConfig
  /// Steps left out since the last that was not, and in all.
  private(set) var skipped = 0
  private(set) var skippedInAll = 0
  /// Returns to the checkpoint after so many steps.
  private var rewound: (steps: Int, times: Int) = (-1, 0)

  init(_ config: NonFiniteConfig) { self.config = config }

  mutating func stepWasFine() { skipped = 0 }

  /// Counts a step that is left out; returns what the log should say.
  mutating func skip(_ error: NonFiniteError) throws -> String {
    guard skipped < config.limit else {
      throw error.limited("\(skipped) steps in a row were left out before it (non_finite.limit)")
    }
    skipped += 1
    skippedInAll += 1
    return "\(error.finding); the update is left out (\(skipped) in a row, \(skippedInAll) since the start)"
  }

  /// Counts a return to the checkpoint after `steps` steps; returns what the log should say.
  mutating func rewind(_ error: NonFiniteError, to steps: Int) throws -> String {
    let times = rewound.steps == steps ? rewound.times : 0
    guard times < config.limit else {
      throw error.limited("the run has gone back to step \(steps) \(times) times already (non_finite.limit)")
    }
    rewound = (steps, times + 1)
    let batches = error.step - steps
    return "\(error.finding); going back to step \(steps), and on with the data after the "
      + (batches == 1 ? "batch since" : "\(batches) batches since")
  }
}

extension NonFiniteError {
  func limited(_ reason: String) -> NonFiniteError {
    var error = self
    error.limit = reason
    return error
  }
}
