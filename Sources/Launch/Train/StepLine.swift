import Model

/// The steps since the last line of the log.
struct StepWindow {
  private(set) var steps = 0
  private(set) var samples = 0
  private(set) var seconds = 0.0
  private(set) var dataSeconds = 0.0
  private(set) var teacherSeconds = 0.0
  private var loss = 0.0
  /// A term counts in the steps in which it had a weight.
  private var terms: [String: (sum: Double, steps: Int)] = [:]

  mutating func add(_ report: StepReport) {
    steps += 1
    samples += report.samples
    seconds += report.seconds
    dataSeconds += report.dataSeconds
    teacherSeconds += report.teacherSeconds ?? 0
    loss += report.objective.total
    for term in report.objective.terms {
      let before = terms[term.name] ?? (0, 0)
      terms[term.name] = (before.sum + term.value, before.steps + 1)
    }
  }

  var lossMean: Double { loss / Double(steps) }
  var termMeans: [String: Double] { terms.mapValues { $0.sum / Double($0.steps) } }
}

/// One line of the log after a step, in both forms: for tools and for people.
struct StepLine: Encodable {
  private let event = "step"
  private let step: Int
  private let steps: Int
  private let epoch: Double
  /// The loss of this step, and its mean since the last line.
  private let loss: Double
  private let lossMean: Double
  /// The same by term, before the weight.
  private let terms: [String: Double]
  private let termMeans: [String: Double]
  private let termWeights: [String: Double]
  /// Divergences and weights of anchors by modality; weights are multiples of 1/N.
  private let anchors: [String: Anchors]?
  private let rate: Double
  private let logitScale: Double
  private let logitScaleClamped: Bool
  private let gradientNorm: Double
  /// What rank 0 received from other ranks in this step.
  private let receivedBytes: Int
  private let pruning: Pruning?
  private let samplesPerSecond: Double
  /// The share of the time that went by waiting for data.
  private let dataWait: Double
  /// The teacher's share of it; nil without a teacher.
  private let teacherShare: Double?
  private let secondsLeft: Double
  private let time = RunLog.now
  private let objective: ObjectiveReport

  /// Of a model that is being pruned: the sparsity expected of its masks and the target, and the multipliers.
  private struct Pruning: Encodable {
    var expected: Double
    var target: Double
    var multipliers: [Double]
  }

  private struct Anchors: Encodable {
    var divergenceMean: Double
    var divergenceDeviation: Double
    var weightMean: Double
    var weightDeviation: Double
  }

  private enum CodingKeys: CodingKey {
    case event, step, steps, epoch, loss, lossMean, terms, termMeans, termWeights, anchors, rate, logitScale
    case logitScaleClamped, gradientNorm, receivedBytes, pruning, samplesPerSecond, dataWait, teacherShare, secondsLeft
    case time
  }

  /// Each of the times is the slowest rank's.
  init(
    _ report: StepReport, _ window: StepWindow, seconds: Double, dataSeconds: Double, teacherSeconds: Double
  ) {
    objective = report.objective
    step = report.step
    steps = report.steps
    epoch = report.epoch
    loss = objective.total
    lossMean = window.lossMean
    func byName(_ value: (ObjectiveReport.Term) -> Double) -> [String: Double] {
      Dictionary(uniqueKeysWithValues: report.objective.terms.map { ($0.name, value($0)) })
    }
    terms = byName(\.value)
    termMeans = window.termMeans
    termWeights = byName(\.weight)
    let anchors = objective.anchors.map {
      (
        $0.name,
        Anchors(
          divergenceMean: $0.divergenceMean, divergenceDeviation: $0.divergenceDeviation, weightMean: $0.weightMean,
          weightDeviation: $0.weightDeviation)
      )
    }
    self.anchors = anchors.isEmpty ? nil : Dictionary(uniqueKeysWithValues: anchors)
    rate = report.rate
    logitScale = report.logitScale
    logitScaleClamped = report.clamped
    gradientNorm = report.gradientNorm
    receivedBytes = report.received
    pruning = report.pruning.map {
      Pruning(expected: $0.expected, target: $0.target, multipliers: $0.multipliers)
    }
    samplesPerSecond = seconds > 0 ? Double(window.samples) / seconds : 0
    func share(_ part: Double) -> Double { seconds > 0 ? min(part / seconds, 1) : 0 }
    dataWait = share(dataSeconds)
    teacherShare = report.teacherSeconds.map { _ in share(teacherSeconds) }
    secondsLeft = Double(report.steps - report.step) * seconds / Double(window.steps)
  }

  /// The figures as TensorBoard groups them.
  var scalars: [(tag: String, value: Double)] {
    func group(_ name: String, _ values: [String: Double]) -> [(tag: String, value: Double)] {
      values.sorted { $0.key < $1.key }.map { ("\(name)/\($0.key)", $0.value) }
    }
    var scalars = [("loss", loss), ("epoch", epoch)]
    scalars += group("term", terms) + group("term weight", termWeights)
    for (name, found) in (anchors ?? [:]).sorted(by: { $0.key < $1.key }) {
      scalars += [
        ("divergence/\(name) mean", found.divergenceMean), ("divergence/\(name) deviation", found.divergenceDeviation),
        ("anchor weight/\(name) deviation", found.weightDeviation),
      ]
    }
    scalars += [
      ("optimizer/rate", rate), ("optimizer/logit scale", logitScale), ("optimizer/gradient norm", gradientNorm),
      ("speed/samples per second", samplesPerSecond), ("speed/data wait", dataWait),
    ]
    if let teacherShare { scalars.append(("speed/teacher share", teacherShare)) }
    if let pruning { scalars += [("pruned/expected", pruning.expected), ("pruned/target", pruning.target)] }
    return scalars
  }

  /// `step 20/100  epoch 0.40  loss 2.1234 (2.2011)  clip 1.8 (1.9)  fd 0.0002 (0.0002) × 1500  image D 0.31±0.1 w
  /// 1±0.4 rate 0.0005  scale 14.3  norm 1.2  samples/s 152.3  wait 1%  teacher 35%  left 12m05s`: a loss or term is
  /// followed by its mean since the last line, a term whose weight is `scheduled` by its weight; D are anchors'
  /// divergences, w their weights in multiples of 1/N, each with its mean and deviation.
  func text(scheduled: Set<String>) -> String {
    func short(_ value: Double) -> String { Figures.significant(value, 4) }
    var parts = [
      "step \(step)/\(steps)", "epoch \(Figures.fixed(epoch, 2))",
      "loss \(Figures.fixed(loss, 4)) (\(Figures.fixed(lossMean, 4)))",
    ]
    // A single term of weight 1 is the loss.
    if objective.terms.count > 1 || objective.terms.contains(where: { $0.weight != 1 }) {
      parts += objective.terms.map { term in
        "\(term.name) \(short(term.value)) (\(short(termMeans[term.name] ?? .nan)))"
          + (scheduled.contains(term.name) ? " × \(short(term.weight))" : "")
      }
    }
    parts += objective.anchors.map {
      "\($0.name) D \(short($0.divergenceMean))±\(short($0.divergenceDeviation))"
        + " w \(short($0.weightMean))±\(short($0.weightDeviation))"
    }
    if let pruning {
      let multipliers = pruning.multipliers.map(short).joined(separator: " ")
      parts.append("pruned \(short(pruning.expected)) of \(short(pruning.target)) λ \(multipliers)")
    }
    parts += [
      "rate \(Figures.significant(rate, 3))",
      "scale \(Figures.fixed(logitScale, 2))\(logitScaleClamped ? " (held)" : "")",
      "norm \(short(gradientNorm))", "samples/s \(short(samplesPerSecond))",
      "wait \(Figures.fixed(100 * dataWait, 0))%",
    ]
    if let teacherShare { parts.append("teacher \(Figures.fixed(100 * teacherShare, 0))%") }
    parts.append("left \(Figures.duration(secondsLeft))")
    return parts.joined(separator: "  ")
  }
}
