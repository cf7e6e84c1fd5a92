import Foundation

/// The kinds of events in `log.jsonl`, by their names in the file.
///
/// The log holds one JSON object per line: the keys of `CommonKeys` and the fields of the event's own type. `RunLog`
/// encodes these types, and `LogReader` looks fields up by the same `CodingKeys`: each name is spelled exactly once.
///
/// Logs outlive releases. The reader accepts lines that lack a key, and ignores events and keys that it does not know.
/// A key that has once been written keeps its name, unit and meaning.
enum LogEvent: String, CaseIterable {
  case start, header, step, evaluation, best, checkpoint, note, outcome

  /// The keys of every line: the event, the number of steps done when it happened, and UTC in ISO 8601, to the second.
  enum CommonKeys: String, CodingKey { case event, step, time }

  /// A start of the run, which continues after `step` steps, and the changes of the run file since the last start.
  struct Start: LogEventFields {
    static let event = LogEvent.start
    var step: Int
    var ranks: Int
    var changes: [String]
    var version = Release.version
    enum CodingKeys: String, CodingKey { case ranks, changes, version }
  }

  struct Header: LogEventFields {
    static let event = LogEvent.header
    var step: Int
    var facts: [Fact]

    struct Fact: Codable, Equatable {
      var name: String
      var text: String
      enum CodingKeys: String, CodingKey { case name, text }
    }
    enum CodingKeys: String, CodingKey { case facts }
  }

  /// The figures of a training step. Times are those of the slowest rank, shares lie between 0 and 1.
  struct Step: LogEventFields {
    static let event = LogEvent.step
    var step: Int
    /// The number of steps in the run, and of the passes over the data that are done.
    var steps: Int
    var epoch: Double
    /// The loss of this step, and the mean loss over the steps since the last such event.
    var loss: Double
    var lossMean: Double
    /// Each term's value in this step before its weight, and its mean over the window's steps in which it had a weight.
    var terms: [String: Double]
    var termMeans: [String: Double]
    var termWeights: [String: Double]
    /// The anchors' statistics by modality; nil if no term weighs anchors.
    var anchors: [String: Anchors]?
    /// The norm of each term's gradient, with its weight, with respect to the student's unit embeddings, over images
    /// and captions of the global batch; nil if the step did not measure it.
    var termGradients: [String: Double]?
    var learningRate: Double
    /// exp(logit_scale) after the step, and whether it was held within its bounds.
    var logitScale: Double
    var logitScaleClamped: Bool
    /// The norm of the whole gradient before clipping.
    var gradientNorm: Double
    /// Bytes that rank 0 received from other ranks in this step.
    var receivedBytes: Int
    /// The masks' state; nil if the model is not being pruned.
    var pruning: Pruning?
    var samplesPerSecond: Double
    /// The share of the time that was spent waiting for data, and the teacher's; nil without a teacher.
    var dataWait: Double
    var teacherShare: Double?
    /// The expected seconds to the end of the run.
    var secondsLeft: Double

    /// Mean and standard deviation of one modality's divergences D, and of its anchors' weights in multiples of 1/N.
    struct Anchors: Encodable {
      var divergenceMean: Double
      var divergenceDeviation: Double
      var weightMean: Double
      var weightDeviation: Double
      /// The modality's learned scale in this step; nil if it has none.
      var scale: Double?

      enum CodingKeys: String, CodingKey {
        case scale
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
      enum CodingKeys: String, CodingKey { case expected, target, multipliers }
    }

    enum CodingKeys: String, CodingKey {
      case steps, epoch, loss, terms, anchors, pruning
      case lossMean = "loss_mean"
      case termGradients = "term_gradients"
      case termMeans = "term_means"
      case termWeights = "term_weights"
      case learningRate = "rate"
      case logitScale = "logit_scale"
      case logitScaleClamped = "logit_scale_clamped"
      case gradientNorm = "gradient_norm"
      case receivedBytes = "received_bytes"
      case samplesPerSecond = "samples_per_second"
      case dataWait = "data_wait"
      case teacherShare = "teacher_share"
      case secondsLeft = "seconds_left"
    }
  }

  struct Evaluation: LogEventFields {
    static let event = LogEvent.evaluation
    var step: Int
    var evaluation: String
    var figures: [String: Double]
    enum CodingKeys: String, CodingKey { case evaluation, figures }
  }

  /// The round of evaluation, after `step` steps, that is the best so far by the metric `EVALUATION/FIGURE`.
  struct Best: LogEventFields {
    static let event = LogEvent.best
    var step: Int
    var metric: String
    var value: Double
    enum CodingKeys: String, CodingKey { case metric, value }
  }

  /// A published checkpoint, the time for which training on rank 0 stood still, and that of the write beside training.
  struct Checkpoint: LogEventFields {
    static let event = LogEvent.checkpoint
    var step: Int
    var folder: String
    var blockedSeconds: Double
    var writtenSeconds: Double

    enum CodingKeys: String, CodingKey {
      case folder
      case blockedSeconds = "blocked_seconds"
      case writtenSeconds = "written_seconds"
    }
  }

  struct Note: LogEventFields {
    static let event = LogEvent.note
    var step: Int
    var note: String
    enum CodingKeys: String, CodingKey { case note }
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
  static let nonFinite: [String: Double] = ["nan": .nan, "inf": .infinity, "-inf": -.infinity]
}

/// The fields of an event. Its `CodingKeys` name all but `step`, the number of steps done, which is a common key.
protocol LogEventFields: Encodable {
  static var event: LogEvent { get }
  var step: Int { get }
}

extension LogEventFields {
  /// The event as a line of the log, its newline included.
  func line() throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try encoder.encode(LogEntry(fields: self)) + Data("\n".utf8)
  }
}

/// The object of one line: the event's own fields beside those that every event has.
private struct LogEntry<Fields: LogEventFields>: Encodable {
  let fields: Fields

  func encode(to encoder: any Encoder) throws {
    try fields.encode(to: encoder)
    var container = encoder.container(keyedBy: LogEvent.CommonKeys.self)
    try container.encode(Fields.event.rawValue, forKey: .event)
    try container.encode(fields.step, forKey: .step)
    try container.encode(RunLog.now, forKey: .time)
  }
}
