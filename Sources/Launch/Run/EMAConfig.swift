import Model
import Settings

/// An exponential moving average of the weights beside them. The short form `ema: 0.9999` gives the decay.
struct EMAConfig: Section {
  /// What is kept of the average in a step.
  var decay = 0.9999
  /// Whether step t keeps min(decay, (1 + t) / (10 + t)).
  var warmup = true
  /// Which weights are evaluated while the run goes on.
  var evaluate = Evaluated.both

  enum Evaluated: String, CaseIterable, FieldValue { case both, ema, raw }

  mutating func fields(_ map: FieldMap) {
    map.field("decay", &decay)
    map.field("warmup", &warmup)
    map.field("evaluate", &evaluate)
  }

  static var expectation: String { "a decay, or a section (decay, warmup, evaluate)" }

  static func shorthandKey(_ text: String) -> String? { "decay" }

  var options: WeightAverage<Float>.Options { .init(decay: decay, warmup: warmup) }

  /// What is wrong, by the path of the key to change.
  var mistakes: [(path: String, text: String)] {
    decay > 0 && decay < 1 ? [] : [("ema.decay", "expected more than 0 and less than 1, found \(decay)")]
  }

  /// What the run's header says.
  var text: String {
    let evaluated =
      switch evaluate {
      case .both: "evaluated beside the weights"
      case .ema: "evaluated in place of the weights"
      case .raw: "not evaluated"
      }
    return "ema: average of the weights with decay \(decay)\(warmup ? " after a warm-up" : ""), \(evaluated)"
  }
}

extension RunConfig {
  /// Whether each evaluation is of the average, one after another.
  var evaluatedAverages: [Bool] {
    switch ema?.evaluate {
    case .both: [false, true]
    case .ema: [true]
    case .raw, nil: [false]
    }
  }
}
