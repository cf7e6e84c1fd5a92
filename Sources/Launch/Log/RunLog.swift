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
    // Reading a device to its end, as `has` does, could go on for ever.
    try OpenFile.requireNoOther(url.relativePath)
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
