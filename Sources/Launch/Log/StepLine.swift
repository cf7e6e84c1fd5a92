import Dist
import Foundation
import Model

/// The results of one step on this rank. Loss, norm and scale are global already; the seconds are this rank's.
struct StepReport: Sendable {
  /// The number of steps done, this one included, and of the steps in the run.
  var step: Int
  var steps: Int
  var epoch: Double
  var outcome: StepOutcome
  var learningRate: Double
  /// Image-caption pairs in the step, over all ranks.
  var samples: Int
  /// The step's wall time, and in it the wait for data and the time that the teacher took; nil without a teacher.
  var seconds: Double
  var dataSeconds: Double
  var teacherSeconds: Double?
}

/// Sums over the steps since the last line of the log.
struct StepWindow {
  private(set) var steps = 0
  private(set) var samples = 0
  private(set) var seconds = 0.0
  private(set) var dataSeconds = 0.0
  private(set) var teacherSeconds = 0.0
  private var loss = 0.0
  /// A term counts only in the steps in which it had a weight.
  private var terms: [String: (sum: Double, steps: Int)] = [:]

  mutating func add(_ report: StepReport) {
    steps += 1
    samples += report.samples
    seconds += report.seconds
    dataSeconds += report.dataSeconds
    teacherSeconds += report.teacherSeconds ?? 0
    loss += report.outcome.loss
    for term in report.outcome.report.terms {
      let before = terms[term.name] ?? (0, 0)
      terms[term.name] = (before.sum + term.value, before.steps + 1)
    }
  }

  var lossMean: Double { loss / Double(steps) }
  var termMeans: [String: Double] { terms.mapValues { $0.sum / Double($0.steps) } }
}

/// The line that a step leaves in the log: an event for `log.jsonl`, a text for people, scalars for TensorBoard.
struct StepLine {
  let event: LogEvent.Step
  /// The terms and anchors in their own order, which the event's dictionaries do not keep.
  private let objective: ObjectiveReport

  /// Makes the line of the last step of a window, whose times are those of the slowest rank.
  init(_ report: StepReport, _ window: StepWindow, seconds: Double, dataSeconds: Double, teacherSeconds: Double) {
    let (outcome, objective) = (report.outcome, report.outcome.report)
    self.objective = objective
    func byName(_ value: (ObjectiveReport.Term) -> Double) -> [String: Double] {
      Dictionary(uniqueKeysWithValues: objective.terms.map { ($0.name, value($0)) })
    }
    func share(_ part: Double) -> Double { seconds > 0 ? min(part / seconds, 1) : 0 }
    let anchors = objective.anchors.map { ($0.name, LogEvent.Step.Anchors($0)) }
    let gradients = objective.gradients.map { ($0.name, $0.norm) }
    event = LogEvent.Step(
      step: report.step, steps: report.steps, epoch: report.epoch, loss: objective.total, lossMean: window.lossMean,
      terms: byName(\.value), termMeans: window.termMeans, termWeights: byName(\.weight),
      anchors: anchors.isEmpty ? nil : Dictionary(uniqueKeysWithValues: anchors),
      termGradients: gradients.isEmpty ? nil : Dictionary(uniqueKeysWithValues: gradients),
      learningRate: report.learningRate, logitScale: outcome.logitScale, logitScaleClamped: outcome.clamped,
      gradientNorm: outcome.gradientNorm, receivedBytes: outcome.received,
      pruning: outcome.pruning.map {
        LogEvent.Step.Pruning(expected: $0.expected, target: $0.target, multipliers: $0.multipliers)
      }, samplesPerSecond: seconds > 0 ? Double(window.samples) / seconds : 0, dataWait: share(dataSeconds),
      teacherShare: report.teacherSeconds.map { _ in share(teacherSeconds) },
      secondsLeft: Double(report.steps - report.step) * seconds / Double(window.steps))
  }

  var scalars: [(tag: String, value: Double)] {
    func group(_ name: String, _ values: [String: Double]) -> [(tag: String, value: Double)] {
      values.sorted { $0.key < $1.key }.map { ("\(name)/\($0.key)", $0.value) }
    }
    var scalars = [("loss", event.loss), ("epoch", event.epoch)]
    scalars += group("term", event.terms) + group("term weight", event.termWeights)
    scalars += group("term gradient", event.termGradients ?? [:])
    for (name, found) in (event.anchors ?? [:]).sorted(by: { $0.key < $1.key }) {
      scalars += [
        ("divergence/\(name) mean", found.divergenceMean), ("divergence/\(name) deviation", found.divergenceDeviation),
        ("anchor weight/\(name) deviation", found.weightDeviation),
      ]
      if let scale = found.scale { scalars.append(("anchor scale/\(name)", scale)) }
    }
    scalars += [
      ("optimizer/rate", event.learningRate), ("optimizer/logit scale", event.logitScale),
      ("optimizer/gradient norm", event.gradientNorm), ("speed/samples per second", event.samplesPerSecond),
      ("speed/data wait", event.dataWait),
    ]
    if let share = event.teacherShare { scalars.append(("speed/teacher share", share)) }
    if let masks = event.pruning { scalars += [("pruned/expected", masks.expected), ("pruned/target", masks.target)] }
    return scalars
  }

  /// The line for people:
  ///
  ///     step 20/100  epoch 0.40  loss 2.1234 (2.2011)  clip 1.8 (1.9)  fd 0.0002 (0.0002) × 1500  image D 0.31±0.1
  ///     w 1±0.4  rate 0.0005  scale 14.3  norm 1.2  samples/s 152.3  wait 1%  teacher 35%  left 12m05s
  ///
  /// The loss and each term are followed by their means since the last line, and a term of `scheduled` by its weight. D
  /// is the mean and standard deviation of the anchors' divergences, w that of their weights in multiples of 1/N. A
  /// modality's learned scale follows them (`s 2.7`). A step that measures the terms' gradients has their norms behind
  /// the anchors: `gradients clip 0.012 fd 0.3`.
  func text(scheduled: Set<String>) -> String {
    func short(_ value: Double) -> String { Figures.significant(value, 4) }
    var parts = [
      "step \(event.step)/\(event.steps)", "epoch \(Figures.fixed(event.epoch, 2))",
      "loss \(Figures.fixed(event.loss, 4)) (\(Figures.fixed(event.lossMean, 4)))",
    ]
    // A single term of weight 1 is the loss.
    if objective.terms.count > 1 || objective.terms.contains(where: { $0.weight != 1 }) {
      parts += objective.terms.map { term in
        "\(term.name) \(short(term.value)) (\(short(event.termMeans[term.name] ?? .nan)))"
          + (scheduled.contains(term.name) ? " × \(short(term.weight))" : "")
      }
    }
    parts += objective.anchors.map {
      "\($0.name) D \(short($0.divergenceMean))±\(short($0.divergenceDeviation))"
        + " w \(short($0.weightMean))±\(short($0.weightDeviation))" + ($0.scale.map { " s \(short($0))" } ?? "")
    }
    let gradients = objective.gradients.map { "\($0.name) \(short($0.norm))" }
    if !gradients.isEmpty { parts.append("gradients \(gradients.joined(separator: " "))") }
    if let pruning = event.pruning {
      let multipliers = pruning.multipliers.map(short).joined(separator: " ")
      parts.append("pruned \(short(pruning.expected)) of \(short(pruning.target)) λ \(multipliers)")
    }
    parts += [
      "rate \(Figures.significant(event.learningRate, 3))",
      "scale \(Figures.fixed(event.logitScale, 2))\(event.logitScaleClamped ? " (held)" : "")",
      "norm \(short(event.gradientNorm))", "samples/s \(short(event.samplesPerSecond))",
      "wait \(Figures.fixed(100 * event.dataWait, 0))%",
    ]
    if let share = event.teacherShare { parts.append("teacher \(Figures.fixed(100 * share, 0))%") }
    parts.append("left \(Figures.duration(event.secondsLeft))")
    return parts.joined(separator: "  ")
  }
}

extension LogEvent.Step.Anchors {
  fileprivate init(_ anchors: ObjectiveReport.Anchors) {
    self.init(
      divergenceMean: anchors.divergenceMean, divergenceDeviation: anchors.divergenceDeviation,
      weightMean: anchors.weightMean, weightDeviation: anchors.weightDeviation, scale: anchors.scale)
  }
}
