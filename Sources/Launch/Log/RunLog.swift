import Dist
import Foundation
import Model

/// The run's log: after every n-th step a line for people on standard output, and an event in `log.jsonl`.
///
/// All ranks record every step; rank 0 writes. Times are those of the slowest rank, because the others wait for it. A
/// resumed run appends: each start writes an event of its own, and if a step was done twice, the later event counts.
final class RunLog {
  static let fileName = "log.jsonl"
  private let every: Int
  private let maximum: (inout [Double]) throws -> Void
  private let console: OpenFile?
  private var hasConsoleFailed = false
  /// The last step that was recorded.
  private var step: Int
  private let file: FileHandle?
  private let events: EventFile?
  private var window = StepWindow()
  private let scheduled: Set<String>
  private var notes: Set<String> = []

  /// Opens the log in the run's folder, which must exist on rank 0, and writes the start. Every rank must call it.
  convenience init(
    in folder: URL, _ config: LogConfig, scheduled: Set<String>, from step: Int, changes: [String] = [],
    over ranks: Communicator
  ) throws {
    let first = ranks.rank == 0
    try self.init(
      file: first ? folder.appending(path: Self.fileName) : nil, console: first ? .standardOutput : nil,
      events: first && config.tensorboard ? EventFile(in: folder, host: ranks.hostname) : nil, every: config.every,
      scheduled: scheduled, start: LogEvent.Start(step: step, ranks: ranks.size, changes: changes),
      maximum: { try ranks.allReduce(&$0, .maximum) })
  }

  /// Opens a log outside a job. A rank that does not write has neither file nor console.
  init(
    file: URL?, console: OpenFile?, events: EventFile? = nil, every: Int, scheduled: Set<String> = [],
    start: LogEvent.Start, maximum: @escaping (inout [Double]) throws -> Void
  ) throws {
    precondition(every > 0)
    (self.every, self.scheduled, self.maximum, self.console, self.events) = (every, scheduled, maximum, console, events)
    step = start.step
    do { self.file = try file.map(Self.open) } catch { throw Self.failure(file?.relativePath ?? "", error) }
    try write(start)
  }

  deinit { try? file?.close() }

  /// Takes a step's figures. A line is due after each n-th step, the last, one that has measured the gradients of the
  /// terms, and with `atOnce`. Every rank must call it.
  func record(_ report: StepReport, atOnce: Bool = false) throws {
    step = report.step
    for text in report.outcome.report.notes where notes.insert(text).inserted { try note(text, at: report.step) }
    window.add(report)
    let isMeasured = !report.outcome.report.gradients.isEmpty
    guard report.step % every == 0 || report.step == report.steps || isMeasured || atOnce else { return }
    var seconds = [window.seconds, window.dataSeconds, window.teacherSeconds]
    try maximum(&seconds)
    let line = StepLine(report, window, seconds: seconds[0], dataSeconds: seconds[1], teacherSeconds: seconds[2])
    window = StepWindow()
    print(line.text(scheduled: scheduled))
    try write(line.event)
    try events?.write(line.scalars, step: report.step)
  }

  /// Returns whether one start of the run has logged `count` evaluations after `step`. Every rank must call it.
  func has(evaluations count: Int, at step: Int) throws -> Bool {
    var found = 0.0
    if let file, count > 0 {
      let end = try file.offset()
      try file.seek(toOffset: 0)
      let text = try file.readToEnd() ?? Data()
      try file.seek(toOffset: end)
      var own = 0.0
      for line in text.split(separator: UInt8(ascii: "\n")) {
        guard let line = LogRecord(Data(line)) else { continue }
        switch line.event {
        case .start: own = 0
        case .evaluation where line.step == step: own += 1
        default: break
        }
        found = max(found, own)
      }
    }
    var most = [found]
    try maximum(&most)
    return Int(most[0]) >= count
  }

  func record(_ facts: [RunHeader.Fact], at step: Int) throws { try write(LogEvent.Header(step: step, facts: facts)) }

  func record(_ outcome: Outcome, at step: Int) throws {
    print(outcome.text)
    try write(
      LogEvent.Outcome(
        step: step, memoryPredicted: outcome.memory.predicted, memoryMeasured: outcome.memory.measured,
        stepSecondsPredicted: outcome.step.predicted, stepSecondsMeasured: outcome.step.measured))
  }

  func record(evaluation name: String, at step: Int, _ figures: [(name: String, value: Double)]) throws {
    let text = figures.map { "\($0.name) \(Figures.significant($0.value, 4))" }.joined(separator: "  ")
    print("step \(step)  \(name)  \(text)")
    let values = Dictionary(figures.map { ($0.name, $0.value) }) { $1 }
    try write(LogEvent.Evaluation(step: step, evaluation: name, figures: values))
    try events?.write(figures.map { ("\(name)/\($0.name)", $0.value) }, step: step)
  }

  /// Records the best round of evaluation so far.
  func record(_ best: BestFigure) throws {
    print("step \(best.step)  best so far: \(best.text)")
    try write(LogEvent.Best(step: best.step, metric: best.metric, value: best.value))
  }

  func record(_ saved: BackgroundCheckpoints.Saved) throws {
    let (blocked, all) = (Figures.significant(saved.blocked, 2), Figures.duration(saved.seconds))
    print("step \(saved.step)  saved \(saved.folder) in \(all), training stood still for \(blocked) s")
    try write(
      LogEvent.Checkpoint(
        step: saved.step, folder: saved.folder, blockedSeconds: saved.blocked, writtenSeconds: saved.seconds))
  }

  /// Prints a message that tools should find in the log too.
  func note(_ text: String, at step: Int) throws {
    print(text)
    try write(LogEvent.Note(step: step, note: text))
  }

  /// Prints a line on the console. If that fails, the run goes on, and the log says so once.
  func print(_ text: String) {
    do { try console?.append(Array("\(text.printable)\n".utf8)) } catch {
      guard !hasConsoleFailed else { return }
      hasConsoleFailed = true
      let note = "warning: \(error.explanation); the run goes on, and its lines are in \(Self.fileName) alone"
      try? write(LogEvent.Note(step: step, note: note))
    }
  }

  /// Says that a signal has stopped the run after `done` steps, and how to continue it.
  static func stopped(by signal: String, after done: Int) -> String {
    done > 0
      ? "stopped by \(signal) after step \(done); go on with --resume latest"
      : "stopped by \(signal) before the first step; start again with --resume auto"
  }

  private static func open(_ url: URL) throws -> FileHandle {
    if !FileManager.default.fileExists(atPath: url.path) { try Data().write(to: url) }
    let file = try FileHandle(forUpdating: url)
    // A run that was killed may have left half a line.
    let end = try file.seekToEnd()
    if end > 0 {
      try file.seek(toOffset: end - 1)
      if try file.read(upToCount: 1) != Data("\n".utf8) { try file.write(contentsOf: Data("\n".utf8)) }
    }
    return file
  }

  private func write(_ event: some LogEventFields) throws {
    guard let file else { return }
    let line = try event.line()
    do { try file.write(contentsOf: line) } catch { throw Self.failure(Self.fileName, error) }
  }

  private static func failure(_ path: String, _ error: any Error) -> UserError {
    UserError(
      "cannot write the run's log \(path): \(error.explanation); free some space, or change output",
      status: .inputOutput)
  }

  static var now: String { Date.now.formatted(.iso8601) }
}

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

/// The times of a run's last few hundred steps, in memory of a fixed size.
struct StepTimes {
  private static let most = 500
  private var seconds: [Double] = []
  /// The number of steps so far, the first included.
  private var count = 0
  init() { seconds.reserveCapacity(Self.most) }

  /// Adds a step's time in seconds. The first step is left out because it allocates the memory of all others.
  mutating func append(_ taken: Double) {
    defer { count += 1 }
    guard count > 0 else { return }
    if seconds.count < Self.most { seconds.append(taken) } else { seconds[(count - 1) % Self.most] = taken }
  }

  var median: Double? { seconds.isEmpty ? nil : seconds.median }
}
