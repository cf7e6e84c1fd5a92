import Dist
import Foundation
import Model

/// What one step did, as this rank knows it. Loss, norm and scale are global already; the seconds are this rank's.
struct StepReport: Sendable {
  /// How many steps are done, this one included.
  var step: Int
  /// How many steps the run has.
  var steps: Int
  /// How many passes over the data are done.
  var epoch: Double
  /// The loss, its terms, and how they weigh their anchors.
  var objective: ObjectiveReport
  /// The learning rate of the step.
  var rate: Double
  /// e^logit_scale after the step, and whether it was held within its bounds.
  var logitScale: Double
  var clamped = false
  /// The norm of the whole gradient before clipping.
  var gradientNorm: Double
  /// Bytes that this rank received from others.
  var received: Int
  /// The masks of a model that is being pruned.
  var pruning: MaskReport?
  /// Pairs in the step, over all ranks.
  var samples: Int
  /// The step's wall time, waiting for data included.
  var seconds: Double
  /// How much of it went by waiting for data.
  var dataSeconds: Double
  /// How much of it the teacher took; nil without a teacher.
  var teacherSeconds: Double?
}

/// The run's log: every n steps a line for people on standard output and the same as a JSON line in `log.jsonl`.
///
/// All ranks record every step; rank 0 writes. Times are those of the slowest rank, for the others wait for it. A
/// resumed run appends: each start writes a line of its own, and where steps were done twice the later line counts.
final class RunLog {
  static let fileName = "log.jsonl"

  private let every: Int
  /// Replaces each number by the largest of all ranks.
  private let maximum: (inout [Double]) throws -> Void
  private let console: FileHandle?
  private let file: FileHandle?
  private let events: EventFile?
  private var window = StepWindow()
  /// Terms whose weights are scheduled: the line for people shows them.
  private let scheduled: Set<String>
  /// What terms have said already.
  private var notes: Set<String> = []

  /// Opens the log in the run's folder, which must be there on rank 0, and writes what the run begins with: the step
  /// it goes on from, and changes of the run file since it was last started. Every rank must call it.
  convenience init(
    in folder: URL, _ config: LogConfig, scheduled: Set<String>, from step: Int, changes: [String] = [],
    over ranks: Communicator
  ) throws {
    let first = ranks.rank == 0
    try self.init(
      file: first ? folder.appending(path: Self.fileName) : nil, console: first ? .standardOutput : nil,
      events: first && config.tensorboard ? EventFile(in: folder, host: ranks.hostname) : nil, every: config.every,
      scheduled: scheduled, start: Start(step: step, ranks: ranks.size, changes: changes),
      maximum: { try ranks.maximum(&$0) })
  }

  /// The same without a job: a rank that does not write has neither file nor console.
  init(
    file: URL?, console: FileHandle?, events: EventFile? = nil, every: Int, scheduled: Set<String> = [], start: Start,
    maximum: @escaping (inout [Double]) throws -> Void
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

  /// Takes one step's figures; after every n-th step, after the last, and with `atOnce` writes a line. Every rank must
  /// call it.
  func record(_ report: StepReport, atOnce: Bool = false) throws {
    for text in report.objective.notes where notes.insert(text).inserted { try note(text, at: report.step) }
    window.add(report)
    guard report.step % every == 0 || report.step == report.steps || atOnce else { return }
    var seconds = [window.seconds, window.dataSeconds, window.teacherSeconds]
    try maximum(&seconds)
    let line = StepLine(report, window, seconds: seconds[0], dataSeconds: seconds[1], teacherSeconds: seconds[2])
    window = StepWindow()
    say(line.text(scheduled: scheduled))
    try write(line)
    try events?.write(line.scalars, step: report.step)
  }

  /// Whether one start of the run has written so many evaluations of the model after `step` steps. Every rank must call
  /// it.
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
        guard let line = try? decoder.decode(Event.self, from: line) else { continue }
        own = line.event == Start.name ? 0 : own + (line.event == Evaluation.name && line.step == step ? 1 : 0)
        found = max(found, own)
      }
    }
    var most = [found]
    try maximum(&most)
    return Int(most[0]) >= count
  }

  /// Writes what the run's header says. Every rank may call it; rank 0 writes.
  func record(_ facts: [RunHeader.Fact], at step: Int) throws { try write(Header(step: step, facts: facts)) }

  /// Says and writes what was predicted of the run, and what it took. Every rank may call it; rank 0 writes.
  func record(_ outcome: Outcome, at step: Int) throws {
    say(outcome.text)
    try write(
      Took(
        step: step, memoryPredicted: outcome.memory.predicted, memoryMeasured: outcome.memory.measured,
        stepSecondsPredicted: outcome.step.predicted, stepSecondsMeasured: outcome.step.measured))
  }

  /// Writes an evaluation's figures. Every rank may call it; rank 0 writes.
  func record(evaluation name: String, at step: Int, _ figures: [(name: String, value: Double)]) throws {
    let text = figures.map { "\($0.name) \(Figures.significant($0.value, 4))" }.joined(separator: "  ")
    say("step \(step)  \(name)  \(text)")
    try write(
      Evaluation(
        step: step, evaluation: name, figures: Dictionary(figures.map { ($0.name, $0.value) }) { $1 }))
    try events?.write(figures.map { ("\(name)/\($0.name)", $0.value) }, step: step)
  }

  /// Writes that a checkpoint is in its place, and what time it took. Every rank may call it; rank 0 writes.
  func record(_ saved: BackgroundCheckpoints.Saved) throws {
    let (blocked, all) = (Figures.significant(saved.blocked, 2), Figures.duration(saved.seconds))
    say("step \(saved.step)  saved \(saved.folder) in \(all), training stood still for \(blocked) s")
    try write(
      SavedCheckpoint(
        step: saved.step, folder: saved.folder, blockedSeconds: saved.blocked, writtenSeconds: saved.seconds))
  }

  /// Says something that tools should find in the log too. Every rank may call it; rank 0 writes.
  func note(_ text: String, at step: Int) throws {
    say(text)
    try write(Note(step: step, note: text))
  }

  /// Says a line on standard output, once for all ranks.
  func say(_ text: String) {
    // Not print: under mpirun standard output is a pipe, and its buffer would hold lines back.
    console?.write(Data("\(text)\n".utf8))
  }

  /// Says that the run has stopped in good order, and how it goes on.
  func sayStopped(by signal: String, after done: Int) { say(Self.stopped(by: signal, after: done)) }

  static func stopped(by signal: String, after done: Int) -> String {
    done > 0
      ? "stopped by \(signal) after step \(done); go on with --resume latest"
      : "stopped by \(signal) before the first step; start again with --resume auto"
  }

  private static func open(_ url: URL) throws -> FileHandle {
    do { return try reopen(url) } catch { throw RunLogFailure(path: url.relativePath, error) }
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

  private func write(_ line: some Encodable) throws {
    guard let file else { return }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    let line = try encoder.encode(line) + Data("\n".utf8)
    do { try file.write(contentsOf: line) } catch { throw RunLogFailure(path: Self.fileName, error) }
  }

  static var now: String { Date.now.formatted(.iso8601) }

  /// What a start of the run writes: the step it goes on from, and what has changed since the last start.
  struct Start: Encodable {
    static let name = "start"
    var event = Self.name
    var step: Int
    var ranks: Int
    var changes: [String]
    var version = Release.version
    var time = RunLog.now
  }

  private struct Header: Encodable {
    var event = "header"
    var step: Int
    var facts: [RunHeader.Fact]
    var time = RunLog.now
  }

  private struct Took: Encodable {
    var event = "outcome"
    var step: Int
    /// Bytes of the rank that held most.
    var memoryPredicted: Int
    var memoryMeasured: Int
    var stepSecondsPredicted: Double
    var stepSecondsMeasured: Double
    var time = RunLog.now
  }

  private struct SavedCheckpoint: Encodable {
    var event = "checkpoint"
    var step: Int
    var folder: String
    /// How long training stood still on rank 0, and how long the write went on beside it.
    var blockedSeconds: Double
    var writtenSeconds: Double
    var time = RunLog.now
  }

  private struct Note: Encodable {
    var event = "note"
    var step: Int
    var note: String
    var time = RunLog.now
  }

  /// What every line says.
  private struct Event: Decodable {
    var event: String
    var step: Int
  }

  private struct Evaluation: Encodable {
    static let name = "evaluation"
    var event = Self.name
    var step: Int
    var evaluation: String
    var figures: [String: Double]
    var time = RunLog.now
  }
}

/// The log cannot be written.
struct RunLogFailure: ExitCoded, CustomStringConvertible {
  let path: String
  let reason: String

  init(path: String, _ error: any Error) {
    self.path = path
    reason = (error as NSError).localizedFailureReason ?? "\(error)"
  }

  var exitCode: Int32 { 74 }
  var description: String { "cannot write the run's log \(path): \(reason); free some space, or change output" }
}
