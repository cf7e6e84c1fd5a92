import Dist
import Model

/// A loss or gradient norm that is not finite. All ranks throw it together.
struct NonFiniteError: ExitCoded, CustomStringConvertible {
  var step: Int
  let report: ObjectiveReport
  let norm: Double
  /// A text for each rank whose own features, teacher rows or gradients are not finite.
  let origins: [String]
  var limit: String?
  var isShared: Bool { true }
  var status: ExitStatus { .notFinite }
  var description: String {
    let advice = "lower optimizer.learning_rate or set optimizer.clip_norm, and resume from the last checkpoint"
    return "\(finding); \(limit.map { "\($0); " } ?? "")\(advice)"
  }

  func limited(_ reason: String) -> NonFiniteError {
    var error = self
    error.limit = reason
    return error
  }

  var finding: String {
    let overflow = "no rank's own numbers are at fault: the sum over ranks overflowed"
    let place = origins.isEmpty ? overflow : origins.joined(separator: "; ")
    let terms = report.terms.filter { !$0.value.isFinite }.map { "\($0.name) \($0.value)" }
    let loss = "\(report.total)" + (terms.isEmpty ? "" : " (\(terms.joined(separator: ", ")))")
    return "step \(step): loss \(loss), gradient norm \(norm): not finite (\(place))"
  }
}

/// Counts the steps whose loss or gradient norm was not finite, up to `non_finite.limit`, alike on every rank.
struct NonFiniteCount {
  let config: NonFiniteConfig
  /// The number of steps skipped in a row, and since the start.
  private(set) var skipped = 0
  private(set) var skippedInAll = 0
  /// The checkpoint to which the run was last rewound, and how many times in a row.
  private(set) var rewound: (step: Int, times: Int) = (-1, 0)
  mutating func didSucceed() { skipped = 0 }

  /// Counts a skipped step and returns the log's line about it. Throws the error if the limit is reached.
  mutating func skip(_ error: NonFiniteError) throws -> String {
    guard skipped < config.limit else {
      throw error.limited("\(skipped) steps in a row were skipped before it (non_finite.limit)")
    }
    skipped += 1
    skippedInAll += 1
    return "\(error.finding); the update is skipped (\(skipped) in a row, \(skippedInAll) since the start)"
  }

  /// Counts a return to the checkpoint of `step`, likewise.
  mutating func rewind(_ error: NonFiniteError, to step: Int) throws -> String {
    let times = rewound.step == step ? rewound.times : 0
    guard times < config.limit else {
      throw error.limited("the run has gone back to step \(step) \(times) times already (non_finite.limit)")
    }
    rewound = (step, times + 1)
    let batches = error.step - step
    let skipped = batches == 1 ? "batch after it" : "\(batches) batches after it"
    return "\(error.finding); going back to step \(step), and skipping the \(skipped)"
  }
}
