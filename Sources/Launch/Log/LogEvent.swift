import Foundation

/// The kinds of events in `log.jsonl`, by their names in the file.
///
/// The log holds one JSON object per line: the keys of `CommonKeys` and the fields of the event's own type. This file
/// declares them all. `RunLog` encodes these types, and `LogReader` looks fields up by the same `CodingKeys`, so that
/// each name in the log is spelled exactly once.
///
/// Logs outlive releases. The reader accepts lines that lack a key, and ignores events and keys that it does not know.
/// A key that has once been written keeps its name, unit and meaning.
enum LogEvent: String, CaseIterable {
  case start, header, step, evaluation, checkpoint, note, outcome

  /// The keys that every line has.
  enum CommonKeys: String, CodingKey {
    case event
    /// The number of steps done when the event happened.
    case step
    /// UTC in ISO 8601, to the second.
    case time
  }

  /// A start of the run, which continues after `step` steps.
  struct Start: LogEventFields {
    static let event = LogEvent.start
    var step: Int
    var ranks: Int
    /// The changes of the run file since the run was last started.
    var changes: [String]
    var version = Release.version

    enum CodingKeys: String, CodingKey {
      case ranks, changes, version
    }
  }

  /// The header that is printed before the first step.
  struct Header: LogEventFields {
    static let event = LogEvent.header
    var step: Int
    var facts: [Fact]

    /// One line of the header.
    struct Fact: Codable, Equatable {
      var name: String
      var text: String

      enum CodingKeys: String, CodingKey {
        case name, text
      }
    }

    enum CodingKeys: String, CodingKey {
      case facts
    }
  }

  /// The figures of a training step, written after every n-th step. Times are those of the slowest rank.
  struct Step: LogEventFields {
    static let event = LogEvent.step
    var step: Int
    /// The number of steps in the run.
    var steps: Int
    /// The number of passes over the data that are done.
    var epoch: Double
    /// The loss of this step.
    var loss: Double
    /// The mean loss over the steps since the last such event.
    var lossMean: Double
    /// Each term's value in this step, before its weight.
    var terms: [String: Double]
    /// Each term's mean over the steps since the last such event in which it had a weight.
    var termMeans: [String: Double]
    var termWeights: [String: Double]
    /// The anchors' statistics by modality; nil if no term weighs anchors.
    var anchors: [String: Anchors]?
    var learningRate: Double
    /// exp(logit_scale) after the step.
    var logitScale: Double
    /// True if the scale was held within its bounds.
    var logitScaleClamped: Bool
    /// The norm of the whole gradient before clipping.
    var gradientNorm: Double
    /// Bytes that rank 0 received from other ranks in this step.
    var receivedBytes: Int
    /// The masks' state; nil if the model is not being pruned.
    var pruning: Pruning?
    var samplesPerSecond: Double
    /// The share of the time, 0 to 1, that was spent waiting for data.
    var dataWait: Double
    /// The teacher's share of the time, 0 to 1; nil without a teacher.
    var teacherShare: Double?
    /// The expected seconds to the end of the run.
    var secondsLeft: Double

    /// Mean and standard deviation of one modality's divergences D, and of its anchors' weights in multiples of 1/N.
    struct Anchors: Encodable {
      var divergenceMean: Double
      var divergenceDeviation: Double
      var weightMean: Double
      var weightDeviation: Double

      enum CodingKeys: String, CodingKey {
        case divergenceMean = "divergence_mean"
        case divergenceDeviation = "divergence_deviation"
        case weightMean = "weight_mean"
        case weightDeviation = "weight_deviation"
      }
    }

    /// The expected sparsity of the masks, the target sparsity, and the multipliers λ₁ and λ₂.
    struct Pruning: Encodable {
      var expected: Double
      var target: Double
      var multipliers: [Double]

      enum CodingKeys: String, CodingKey {
        case expected, target, multipliers
      }
    }

    enum CodingKeys: String, CodingKey {
      case steps, epoch, loss
      case lossMean = "loss_mean"
      case terms
      case termMeans = "term_means"
      case termWeights = "term_weights"
      case anchors
      case learningRate = "rate"
      case logitScale = "logit_scale"
      case logitScaleClamped = "logit_scale_clamped"
      case gradientNorm = "gradient_norm"
      case receivedBytes = "received_bytes"
      case pruning
      case samplesPerSecond = "samples_per_second"
      case dataWait = "data_wait"
      case teacherShare = "teacher_share"
      case secondsLeft = "seconds_left"
    }
  }

  /// The figures of an evaluation, by their names.
  struct Evaluation: LogEventFields {
    static let event = LogEvent.evaluation
    var step: Int
    var evaluation: String
    var figures: [String: Double]

    enum CodingKeys: String, CodingKey {
      case evaluation, figures
    }
  }

  /// A checkpoint that has been written and published.
  struct Checkpoint: LogEventFields {
    static let event = LogEvent.checkpoint
    var step: Int
    var folder: String
    /// The time for which training on rank 0 stood still.
    var blockedSeconds: Double
    /// The time for which the write continued beside training.
    var writtenSeconds: Double

    enum CodingKeys: String, CodingKey {
      case folder
      case blockedSeconds = "blocked_seconds"
      case writtenSeconds = "written_seconds"
    }
  }

  /// A message to the user.
  struct Note: LogEventFields {
    static let event = LogEvent.note
    var step: Int
    var note: String

    enum CodingKeys: String, CodingKey {
      case note
    }
  }

  /// The predicted cost of the run beside the measured one. Memory is in bytes of the rank that held most.
  struct Outcome: LogEventFields {
    static let event = LogEvent.outcome
    var step: Int
    var memoryPredicted: Int
    var memoryMeasured: Int
    var stepSecondsPredicted: Double
    var stepSecondsMeasured: Double

    enum CodingKeys: String, CodingKey {
      case memoryPredicted = "memory_predicted"
      case memoryMeasured = "memory_measured"
      case stepSecondsPredicted = "step_seconds_predicted"
      case stepSecondsMeasured = "step_seconds_measured"
    }
  }

  /// The words that stand for the numbers which JSON cannot express.
  enum NonFinite: String {
    case nan
    case infinity = "inf"
    case negativeInfinity = "-inf"

    var value: Double {
      switch self {
      case .nan: .nan
      case .infinity: .infinity
      case .negativeInfinity: -.infinity
      }
    }
  }
}

/// The fields of an event. `step` is written with the common keys; the type's `CodingKeys` name all others.
protocol LogEventFields: Encodable {
  static var event: LogEvent { get }
  /// The number of steps done when the event happened.
  var step: Int { get }
}

extension LogEventFields {
  /// The event as a line of the log, its newline included.
  func line(at time: String = RunLog.now) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: LogEvent.NonFinite.infinity.rawValue,
      negativeInfinity: LogEvent.NonFinite.negativeInfinity.rawValue, nan: LogEvent.NonFinite.nan.rawValue)
    return try encoder.encode(LogEntry(fields: self, time: time)) + Data("\n".utf8)
  }
}

/// The object of one line: the event's own fields beside those that every event has.
private struct LogEntry<Fields: LogEventFields>: Encodable {
  let fields: Fields
  let time: String

  func encode(to encoder: any Encoder) throws {
    try fields.encode(to: encoder)
    var container = encoder.container(keyedBy: LogEvent.CommonKeys.self)
    try container.encode(Fields.event.rawValue, forKey: .event)
    try container.encode(fields.step, forKey: .step)
    try container.encode(time, forKey: .time)
  }
}
