import Dist
import Foundation
import Model
import Tensor

/// This rank's rows of one global batch.
struct StepBatch<S: Scalar> {
  /// [b, 3, size, size], and as many captions.
  var images: Tensor<S>
  var captions: [[Int32]]
  /// The place of these rows in the global batch of `count` pairs.
  var rows: Range<Int>
  var count: Int
  /// The factor of the teacher's similarities; nil without a teacher.
  var teacherScale: S?
}

/// The result of one step: the same on every rank, except for the seconds.
struct StepOutcome {
  /// The objective over the global batch, before the update.
  var report: ObjectiveReport
  /// The norm of the whole gradient, before clipping.
  var gradientNorm: Double
  /// e^logit_scale after the update.
  var logitScale: Double
  /// True if the logit scale had to be clamped to its bounds.
  var clamped: Bool
  /// Bytes that this rank received from others, as `Traffic` counts them.
  var received: Int
  /// The state of the masks, if the model is being pruned.
  var pruning: MaskReport?
  var seconds = StepSeconds()

  var loss: Double { report.total }
}

/// The seconds of a step's parts on this rank.
struct StepSeconds {
  var forward = 0.0
  var loss = 0.0
  var backward = 0.0
  /// The exchange of gradients and parameters, including the wait for other ranks.
  var communication = 0.0
  var optimizer = 0.0
}

/// Measures the parts of a step, and draws those with a name in the trace.
struct StepClock {
  private(set) var seconds = StepSeconds()

  /// Runs `body` and adds its time to one part. The growth of `waiting` meanwhile counts as communication instead.
  mutating func measure<R>(
    _ part: WritableKeyPath<StepSeconds, Double>, _ name: String? = nil, less waiting: @autoclosure () -> Double = 0,
    _ body: () throws -> R
  ) rethrows -> R {
    let before = waiting()
    defer {
      let waited = waiting() - before
      seconds[keyPath: part] -= waited
      seconds.communication += waited
    }
    return try clock(&seconds[keyPath: part], name, .compute, body)
  }
}

/// Adds the time that `body` takes to `seconds`; with a name, it is a span of the trace too.
func clock<R>(
  _ seconds: inout Double, _ name: String? = nil, _ kind: Trace.Kind = .compute, _ body: () throws -> R
) rethrows -> R {
  let start = ContinuousClock.now
  defer { seconds += (ContinuousClock.now - start) / .seconds(1) }
  guard let name else { return try body() }
  return try Trace.span(name, kind, body)
}

extension Tensor {
  /// Consecutive images of [b, channels, height, width].
  func samples(_ range: Range<Int>) -> Tensor {
    let (channels, height, width) = (shape[1], shape[2], shape[3])
    let length = channels * height * width
    return slice(range.lowerBound * length..<range.upperBound * length)
      .reshaped(Shape(range.count, channels, height, width))
  }
}
