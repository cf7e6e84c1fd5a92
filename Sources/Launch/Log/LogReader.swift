import Dist
import Foundation

/// Reads a run's log in whatever state it is. A line that cannot be understood is counted and skipped. If a step was
/// done twice, the later line counts.
struct LogReader {
  /// The largest number of starts, notes and checkpoints kept. The last ones are kept, and the first start.
  private static let kept = 1000
  /// The largest number of evaluations with different names.
  private static let evaluationsKept = 64
  /// The largest number of characters kept of a name.
  fileprivate static let name = 200

  private var history = RunHistory()
  private var segmentBegin: String?

  /// Reads the log at `url`; `run` is the run's name in messages. Throws a `ReportError`.
  static func read(_ url: URL, run: String) throws -> RunHistory {
    var reader = LogReader()
    do throws(FileError) {
      var lines = try LogLines(url.relativePath)
      while let line = try lines.next() { reader.take(line) }
      reader.history.isTorn = lines.isTorn
    } catch { throw ReportError.noLog(run: run, error) }
    reader.endSegment()
    let history = reader.history
    guard history.lines > history.unreadable else {
      throw ReportError.emptyLog(path: url.relativePath, lines: history.lines)
    }
    return history
  }

  private mutating func take(_ line: LogLines.Line) {
    if case .text(let bytes) = line, bytes.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { return }
    history.lines += 1
    if case .text(let bytes) = line, let record = LogRecord(Data(bytes)), take(record) {
      history.lastTime = record.time ?? history.lastTime
      return
    }
    history.unreadable += 1
    history.firstUnreadable = history.firstUnreadable ?? history.lines
  }

  /// Takes an event. Returns false if it lacks a field that such an event must have. An unknown event is ignored,
  /// because a later release may write more.
  private mutating func take(_ record: LogRecord) -> Bool {
    switch record.event {
    case .start: takeStart(record)
    case .header: takeHeader(record)
    case .step: return takeStep(record)
    case .evaluation: return takeEvaluation(record)
    case .checkpoint: return takeCheckpoint(record)
    case .note: return takeNote(record)
    case .outcome: return takeOutcome(record)
    case nil: break
    }
    return true
  }

  private mutating func takeStart(_ record: LogRecord) {
    let fields = record.fields(LogEvent.Start.CodingKeys.self)
    endSegment()
    segmentBegin = record.time
    goBack(to: record.step)
    let changes = fields[.changes] as? [Any] ?? []
    history.starts.append(
      .init(
        step: record.step, ranks: fields[.ranks] as? Int, version: fields.text(.version, upTo: Self.name),
        changes: changes.prefix(100).compactMap { ($0 as? String)?.shortened(to: 500) }, time: segmentBegin))
    if history.starts.count > Self.kept { history.starts.remove(at: 1) }
  }

  private mutating func takeHeader(_ record: LogRecord) {
    let facts = record.fields(LogEvent.Header.CodingKeys.self)[.facts] as? [[String: Any]] ?? []
    history.facts = facts.prefix(100).compactMap { fact in
      let fact = LogFields<LogEvent.Header.Fact.CodingKeys>(fact)
      guard let name = fact.text(.name, upTo: Self.name), let text = fact.text(.text, upTo: 2000) else { return nil }
      return LogEvent.Header.Fact(name: name, text: text)
    }
  }

  private static let stepNumbers: [(StepTable.Figure, LogEvent.Step.CodingKeys)] = [
    (.loss, .loss), (.rate, .learningRate), (.logitScale, .logitScale), (.gradientNorm, .gradientNorm),
    (.samplesPerSecond, .samplesPerSecond), (.dataWait, .dataWait), (.teacherShare, .teacherShare),
    (.receivedBytes, .receivedBytes),
  ]

  private mutating func takeStep(_ record: LogRecord) -> Bool {
    let fields = record.fields(LogEvent.Step.CodingKeys.self)
    guard fields.number(.loss) != nil else { return false }
    var values: [(StepTable.Figure, Double)] = []
    func add(_ figure: StepTable.Figure, _ number: Double?) {
      if let number { values.append((figure, number)) }
    }
    for (figure, key) in Self.stepNumbers { add(figure, fields.number(key)) }
    for (name, value) in fields.members(.terms) { add(.term(name.shortened(to: Self.name)), LogNumber.read(value)) }
    for (name, value) in fields.members(.termWeights) {
      add(.termWeight(name.shortened(to: Self.name)), LogNumber.read(value))
    }
    for (name, anchors) in fields.members(.anchors) {
      let name = name.shortened(to: Self.name)
      let anchors = LogFields<LogEvent.Step.Anchors.CodingKeys>(anchors)
      add(.divergence(name), anchors.number(.divergenceMean))
      add(.divergenceDeviation(name), anchors.number(.divergenceDeviation))
      add(.anchorWeight(name), anchors.number(.weightMean))
      add(.anchorWeightDeviation(name), anchors.number(.weightDeviation))
    }
    let pruning = LogFields<LogEvent.Step.Pruning.CodingKeys>(fields[.pruning])
    add(.prunedExpected, pruning.number(.expected))
    add(.prunedTarget, pruning.number(.target))
    history.superseded += history.table.append(record.step, values)
    dropEvaluations(from: record.step)
    history.plannedSteps = LogNumber.step(fields[.steps]) ?? history.plannedSteps
    history.epoch = fields.number(.epoch)
    // A run that continues has not ended.
    history.outcome = nil
    return true
  }

  private mutating func takeEvaluation(_ record: LogRecord) -> Bool {
    let fields = record.fields(LogEvent.Evaluation.CodingKeys.self)
    guard let name = fields.text(.evaluation, upTo: Self.name), let figures = fields[.figures] as? [String: Any] else {
      return false
    }
    let place =
      history.evaluations.firstIndex { $0.name == name }
      ?? {
        history.evaluations.append((name, []))
        return history.evaluations.count - 1
      }()
    guard place < Self.evaluationsKept else {
      history.evaluations.removeLast()
      return true
    }
    while let last = history.evaluations[place].rounds.last, last.step >= record.step {
      history.evaluations[place].rounds.removeLast()
    }
    let kept = figures.compactMapValues(LogNumber.read).sorted { $0.key < $1.key }.prefix(32)
      .map { ($0.key.shortened(to: Self.name), $0.value) }
    history.evaluations[place].rounds.append(.init(step: record.step, figures: Dictionary(kept) { first, _ in first }))
    return true
  }

  private mutating func takeCheckpoint(_ record: LogRecord) -> Bool {
    let fields = record.fields(LogEvent.Checkpoint.CodingKeys.self)
    guard let path = fields.text(.folder, upTo: 4096) else { return false }
    // The run's folder may have been moved since.
    let folder = String(URL(filePath: path).lastPathComponent.prefix(Self.name))
    history.checkpoints.removeAll { $0.folder == folder }
    history.checkpoints.append(
      .init(
        step: record.step, folder: folder, blockedSeconds: fields.number(.blockedSeconds),
        writtenSeconds: fields.number(.writtenSeconds)))
    if history.checkpoints.count > Self.kept { history.checkpoints.removeFirst() }
    return true
  }

  private mutating func takeNote(_ record: LogRecord) -> Bool {
    let fields = record.fields(LogEvent.Note.CodingKeys.self)
    guard let text = fields.text(.note, upTo: 2000) else { return false }
    history.notes.append(.init(step: record.step, text: text))
    if history.notes.count > Self.kept { history.notes.removeFirst() }
    return true
  }

  private mutating func takeOutcome(_ record: LogRecord) -> Bool {
    let fields = record.fields(LogEvent.Outcome.CodingKeys.self)
    guard let memoryPredicted = fields.number(.memoryPredicted), let memoryMeasured = fields.number(.memoryMeasured),
      let secondsPredicted = fields.number(.stepSecondsPredicted),
      let secondsMeasured = fields.number(.stepSecondsMeasured)
    else { return false }
    history.outcome = .init(
      memory: (memoryPredicted, memoryMeasured), stepSeconds: (secondsPredicted, secondsMeasured))
    return true
  }

  private mutating func goBack(to step: Int) {
    guard step < Int.max else { return }
    history.superseded += history.table.drop(from: step + 1)
    dropEvaluations(from: step + 1)
  }

  private mutating func dropEvaluations(from step: Int) {
    for place in history.evaluations.indices {
      while let last = history.evaluations[place].rounds.last, last.step >= step {
        history.evaluations[place].rounds.removeLast()
      }
    }
  }

  private mutating func endSegment() {
    guard let begin = segmentBegin.flatMap(Self.date), let end = history.lastTime.flatMap(Self.date) else { return }
    history.seconds += max(0, end.timeIntervalSince(begin))
    segmentBegin = nil
  }

  private static func date(_ text: String) -> Date? { try? Date(text, strategy: .iso8601) }
}

/// A line of the log that could be parsed.
private struct LogRecord {
  /// Nil for an event of a later release.
  let event: LogEvent?
  let step: Int
  /// The line's time as it stands there; nil if the line has none.
  let time: String?
  private let object: [String: Any]

  /// Parses a line. Returns nil if it is not a JSON object with an event and a step.
  init?(_ line: Data) {
    guard let object = try? JSONSerialization.jsonObject(with: line) as? [String: Any] else { return nil }
    let common = LogFields<LogEvent.CommonKeys>(object)
    guard let event = common[.event] as? String, let step = LogNumber.step(common[.step]) else { return nil }
    (self.event, self.step, self.object) = (LogEvent(rawValue: event), step, object)
    time = common.text(.time, upTo: LogReader.name)
  }

  /// The fields of the event's own type.
  func fields<Key: CodingKey>(_ keys: Key.Type) -> LogFields<Key> { LogFields(object) }
}

/// The fields of a JSON object, looked up by the keys with which they were written. A field that is missing, or whose
/// value has another type than is asked for, is nil.
private struct LogFields<Key: CodingKey> {
  private let object: [String: Any]

  /// A value that is not an object has no fields.
  init(_ value: Any?) { object = value as? [String: Any] ?? [:] }

  subscript(key: Key) -> Any? { object[key.stringValue] }

  func number(_ key: Key) -> Double? { LogNumber.read(self[key]) }

  /// The field's text, shortened to `longest` characters.
  func text(_ key: Key, upTo longest: Int) -> String? { (self[key] as? String)?.shortened(to: longest) }

  /// The members of an object whose keys are names, such as those of terms.
  func members(_ key: Key) -> [String: Any] { self[key] as? [String: Any] ?? [:] }
}

/// Reads numbers of the log.
private enum LogNumber {
  /// A number, or a word for a number that JSON cannot express.
  static func read(_ value: Any?) -> Double? {
    switch value {
    case let number as Double: number
    case let number as Int: Double(number)
    case let word as String: LogEvent.NonFinite(rawValue: word)?.value
    default: nil
    }
  }

  /// A step: a whole number that a chart can tell from its neighbours.
  static func step(_ value: Any?) -> Int? {
    guard let number = read(value), number >= 0, number < 0x1p53, number == number.rounded() else { return nil }
    return Int(number)
  }
}

extension String {
  /// The text itself, or its beginning and an ellipsis, `longest` characters together.
  func shortened(to longest: Int) -> String {
    // Counting bytes is faster, and there are never fewer bytes than characters.
    utf8.count > longest && count > longest ? prefix(longest - 1) + "…" : self
  }
}

/// The lines of a file one after another, in bounded memory however long the file or a line is. Lines that are appended
/// after `init` are not read.
struct LogLines {
  enum Line {
    /// The line's bytes without its newline.
    case text(ArraySlice<UInt8>)
    /// The line is longer than `longest` bytes.
    case tooLong
  }

  /// A line of the log has a few thousand bytes; one with a list of changes may have more.
  static let longest = 1 << 20

  private let file: OpenFile
  private let size: Int
  private var offset = 0
  private var chunk: ArraySlice<UInt8> = []
  /// True if the last line lacks its newline: it was being written when the run died, or is being written now.
  private(set) var isTorn = false

  init(_ path: String) throws(FileError) {
    file = try OpenFile.reading(path)
    size = try file.size()
  }

  /// Returns the next line, or nil at the end of the file.
  mutating func next() throws(FileError) -> Line? {
    var line: ArraySlice<UInt8> = []
    var isTooLong = false
    while true {
      if let end = chunk.firstIndex(of: UInt8(ascii: "\n")) {
        line = line.isEmpty ? chunk[..<end] : line + chunk[..<end]
        chunk = chunk[(end + 1)...]
        return isTooLong || line.count > Self.longest ? .tooLong : .text(line)
      }
      line += chunk
      if line.count > Self.longest {
        isTooLong = true
        line = []
      }
      let count = min(size - offset, 1 << 20)
      chunk = try file.read(count, of: UInt8.self, at: offset)[...]
      offset += count
      if count == 0 {
        guard isTooLong || !line.isEmpty else { return nil }
        isTorn = true
        return isTooLong ? .tooLong : .text(line)
      }
    }
  }
}
