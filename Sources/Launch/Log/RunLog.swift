import Dist
import Foundation
import Model

/// The run's log. After every n-th step it prints a line for people on standard output, and writes the same figures as
/// an event to `log.jsonl`.
///
/// All ranks record every step; rank 0 writes. Times are those of the slowest rank, because the others wait for it. A
/// resumed run appends: each start writes an event of its own, and if a step was done twice, the later event counts.
final class RunLog {
  static let fileName = "log.jsonl"

  private let every: Int
  /// Replaces each number by the largest of all ranks.
  private let maximum: (inout [Double]) throws -> Void
  private let console: FileHandle?
  private let file: FileHandle?
  private let events: EventFile?
  private var window = StepWindow()
  /// The terms with scheduled weights, which the line for people shows.
  private let scheduled: Set<String>
  /// The terms' notes that have been logged already.
  private var notes: Set<String> = []

  /// Opens the log in the run's folder, which must exist on rank 0, and writes the start: the step after which the run
  /// continues, and how the run file has changed since it was last started. Every rank must call it.
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
    file: URL?, console: FileHandle?, events: EventFile? = nil, every: Int, scheduled: Set<String> = [],
    start: LogEvent.Start, maximum: @escaping (inout [Double]) throws -> Void
  ) throws {
    precondition(every > 0)
    self.every = every
    self.scheduled = scheduled
    self.maximum = maximum
    self.console = console
    self.events = events
    self.file = try file.map(Self.open)
    try write(start)
  }

  deinit { try? file?.close() }

  /// Takes one step's figures. After every n-th step, after the last, and with `atOnce` it writes a line. Every rank
  /// must call it.
  func record(_ report: StepReport, atOnce: Bool = false) throws {
    for text in report.objective.notes where notes.insert(text).inserted { try note(text, at: report.step) }
    window.add(report)
    guard report.step % every == 0 || report.step == report.steps || atOnce else { return }
    var seconds = [window.seconds, window.dataSeconds, window.teacherSeconds]
    try maximum(&seconds)
    let line = StepLine(report, window, seconds: seconds[0], dataSeconds: seconds[1], teacherSeconds: seconds[2])
    window = StepWindow()
    print(line.text(scheduled: scheduled))
    try write(line.event)
    try events?.write(line.scalars, step: report.step)
  }

  /// Returns whether a single start of the run has logged at least `count` evaluations of the model after `step` steps.
  /// Every rank must call it.
  func has(evaluations count: Int, at step: Int) throws -> Bool {
    var found = 0.0
    if let file, count > 0 {
      let end = try file.offset()
      try file.seek(toOffset: 0)
      let text = try file.readToEnd() ?? Data()
      try file.seek(toOffset: end)
      let decoder = JSONDecoder()
      var own = 0.0
      for line in text.split(separator: UInt8(ascii: "\n")) {
        guard let line = try? decoder.decode(EventAndStep.self, from: line) else { continue }
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

  /// The common keys of a line.
  private struct EventAndStep: Decodable {
    /// Nil for an event of a later release.
    let event: LogEvent?
    let step: Int

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: LogEvent.CommonKeys.self)
      event = LogEvent(rawValue: try container.decode(String.self, forKey: .event))
      step = try container.decode(Int.self, forKey: .step)
    }
  }

  /// Writes the run's header. Every rank may call it; rank 0 writes.
  func record(_ facts: [RunHeader.Fact], at step: Int) throws {
    try write(LogEvent.Header(step: step, facts: facts))
  }

  /// Prints and writes the predicted cost of the run beside the measured one. Every rank may call it; rank 0 writes.
  func record(_ outcome: Outcome, at step: Int) throws {
    print(outcome.text)
    try write(
      LogEvent.Outcome(
        step: step, memoryPredicted: outcome.memory.predicted, memoryMeasured: outcome.memory.measured,
        stepSecondsPredicted: outcome.step.predicted, stepSecondsMeasured: outcome.step.measured))
  }

  /// Prints and writes an evaluation's figures. Every rank may call it; rank 0 writes.
  func record(evaluation name: String, at step: Int, _ figures: [(name: String, value: Double)]) throws {
    let text = figures.map { "\($0.name) \(Figures.significant($0.value, 4))" }.joined(separator: "  ")
    print("step \(step)  \(name)  \(text)")
    try write(
      LogEvent.Evaluation(
        step: step, evaluation: name, figures: Dictionary(figures.map { ($0.name, $0.value) }) { $1 }))
    try events?.write(figures.map { ("\(name)/\($0.name)", $0.value) }, step: step)
  }

  /// Prints and writes that a checkpoint has been published, and how long it took. Every rank may call it; rank 0
  /// writes.
  func record(_ saved: BackgroundCheckpoints.Saved) throws {
    let (blocked, all) = (Figures.significant(saved.blocked, 2), Figures.duration(saved.seconds))
    print("step \(saved.step)  saved \(saved.folder) in \(all), training stood still for \(blocked) s")
    try write(
      LogEvent.Checkpoint(
        step: saved.step, folder: saved.folder, blockedSeconds: saved.blocked, writtenSeconds: saved.seconds))
  }

  /// Prints a message that tools should find in the log too. Every rank may call it; rank 0 writes.
  func note(_ text: String, at step: Int) throws {
    print(text)
    try write(LogEvent.Note(step: step, note: text))
  }

  /// Prints a line on standard output, once for all ranks.
  func print(_ text: String) {
    // Not Swift's print: under mpirun standard output is a pipe, and its buffer would hold lines back.
    console?.write(Data("\(text)\n".utf8))
  }

  /// Prints that a signal has stopped the run after `done` steps, and how to continue it.
  func printStopped(by signal: String, after done: Int) { print(Self.stopped(by: signal, after: done)) }

  static func stopped(by signal: String, after done: Int) -> String {
    done > 0
      ? "stopped by \(signal) after step \(done); go on with --resume latest"
      : "stopped by \(signal) before the first step; start again with --resume auto"
  }

  private static func open(_ url: URL) throws -> FileHandle {
    do { return try reopen(url) } catch { throw Self.failure(url.relativePath, error) }
  }

  private static func reopen(_ url: URL) throws -> FileHandle {
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
      nil, "cannot write the run's log \(path): \(error.systemReason); free some space, or change output",
      status: .inputOutput)
  }

  /// The current time as the log writes it.
  static var now: String { Date.now.formatted(.iso8601) }
}
