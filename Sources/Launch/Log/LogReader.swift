import Dist
import Foundation

/// Reads a run's log in any state. Lines that cannot be understood are counted; of a step done twice, the later counts.
struct LogReader {
  /// The most starts, notes and checkpoints that are kept: the last ones, and the first start.
  private static let kept = 1000
  /// The most evaluations with different names that are kept, and characters of a name.
  private static let evaluationsKept = 64
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
    let (history, path) = (reader.history, url.relativePath)
    guard history.lines > history.unreadable else { throw ReportError.emptyLog(path: path, lines: history.lines) }
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

  /// Takes an event; false if it lacks a field that it must have. Events of later releases are ignored.
  private mutating func take(_ record: LogRecord) -> Bool {
    switch record.event {
    case .start: takeStart(record)
    case .header: takeHeader(record)
    case .step: return takeStep(record)
    case .evaluation: return takeEvaluation(record)
    case .best: return takeBest(record)
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
    history.superseded += history.table.drop(from: record.step + 1)
    dropEvaluations(from: record.step + 1)
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
    func add(_ figure: StepTable.Figure, _ number: Double?) { if let number { values.append((figure, number)) } }
    for (figure, key) in Self.stepNumbers { add(figure, fields.number(key)) }
    for (name, value) in fields.members(.terms) { add(.term(name), LogNumber.read(value)) }
    for (name, value) in fields.members(.termWeights) { add(.termWeight(name), LogNumber.read(value)) }
    for (name, value) in fields.members(.termGradients) { add(.termGradient(name), LogNumber.read(value)) }
    for (name, anchors) in fields.members(.anchors) {
      let anchors = LogFields<LogEvent.Step.Anchors.CodingKeys>(anchors)
      add(.divergence(name), anchors.number(.divergenceMean))
      add(.divergenceDeviation(name), anchors.number(.divergenceDeviation))
      add(.anchorWeight(name), anchors.number(.weightMean))
      add(.anchorWeightDeviation(name), anchors.number(.weightDeviation))
      add(.anchorScale(name), anchors.number(.scale))
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
    guard let name = fields.text(.evaluation, upTo: Self.name), let figures = record.figures else { return false }
    let place = history.evaluations.firstIndex { $0.name == name } ?? history.evaluations.count
    if place == history.evaluations.count {
      guard place < Self.evaluationsKept else { return true }
      history.evaluations.append((name, []))
    }
    dropRounds(of: place, from: record.step)
    let kept = figures.sorted { $0.key < $1.key }.prefix(32)
      .map { ($0.key.shortened(to: Self.name), $0.value) }
    history.evaluations[place].rounds.append(
      .init(step: record.step, evaluation: name, figures: Dictionary(kept) { first, _ in first }))
    return true
  }

  private mutating func takeBest(_ record: LogRecord) -> Bool {
    let fields = record.fields(LogEvent.Best.CodingKeys.self)
    guard let metric = fields.text(.metric, upTo: 2 * Self.name), let value = fields.number(.value) else {
      return false
    }
    history.best = LogEvent.Best(step: record.step, metric: metric, value: value)
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
    guard let text = record.fields(LogEvent.Note.CodingKeys.self).text(.note, upTo: 2000) else { return false }
    history.notes.append(LogEvent.Note(step: record.step, note: text))
    if history.notes.count > Self.kept { history.notes.removeFirst() }
    return true
  }

  private mutating func takeOutcome(_ record: LogRecord) -> Bool {
    let fields = record.fields(LogEvent.Outcome.CodingKeys.self)
    guard let memory = fields.pair(.memoryPredicted, .memoryMeasured),
      let seconds = fields.pair(.stepSecondsPredicted, .stepSecondsMeasured)
    else { return false }
    history.outcome = .init(memory: memory, stepSeconds: seconds)
    return true
  }

  private mutating func dropEvaluations(from step: Int) {
    for place in history.evaluations.indices { dropRounds(of: place, from: step) }
    if let best = history.best, best.step >= step { history.best = nil }
  }

  private mutating func dropRounds(of place: Int, from step: Int) {
    while let last = history.evaluations[place].rounds.last, last.step >= step {
      history.evaluations[place].rounds.removeLast()
    }
  }

  private mutating func endSegment() {
    func date(_ text: String?) -> Date? { text.flatMap { try? Date($0, strategy: .iso8601) } }
    guard let begin = date(segmentBegin), let end = date(history.lastTime) else { return }
    history.seconds += max(0, end.timeIntervalSince(begin))
    segmentBegin = nil
  }
}

struct LogRecord {
  /// Nil for an event of a later release.
  let event: LogEvent?
  let step: Int
  let time: String?
  private let line: Data
  private let object: [String: Any]

  /// Parses a line. Returns nil if it is not a JSON object with an event and a step.
  init?(_ line: Data) {
    guard let object = try? JSONSerialization.jsonObject(with: line) as? [String: Any] else { return nil }
    let common = LogFields<LogEvent.CommonKeys>(object)
    guard let event = common[.event] as? String, let step = LogNumber.step(common[.step]) else { return nil }
    (self.event, self.step, self.line, self.object) = (LogEvent(rawValue: event), step, line, object)
    time = common.text(.time, upTo: LogReader.name)
  }

  fileprivate func fields<Key: CodingKey>(_ keys: Key.Type) -> LogFields<Key> { LogFields(object) }

  /// The figures of an evaluation, to the bit, as a run compares them; `JSONSerialization` rounds the last digit.
  fileprivate var figures: [String: Double]? {
    (try? JSONDecoder().decode(LogFigures.self, from: line))?.figures.compactMapValues(\.number)
  }
}

private struct LogFigures: Decodable {
  /// A number, or a word for one; nil if it is anything else.
  struct Figure: Decodable {
    let number: Double?

    init(from decoder: any Decoder) throws {
      let value = try decoder.singleValueContainer()
      number = (try? value.decode(Double.self)) ?? (try? value.decode(String.self)).flatMap { LogEvent.nonFinite[$0] }
    }
  }

  let figures: [String: Figure]
}

/// The fields of a JSON object by the keys with which they were written: nil if one is missing or has another type.
private struct LogFields<Key: CodingKey> {
  private let object: [String: Any]
  init(_ value: Any?) { object = value as? [String: Any] ?? [:] }
  subscript(key: Key) -> Any? { object[key.stringValue] }
  func number(_ key: Key) -> Double? { LogNumber.read(self[key]) }

  func pair(_ predicted: Key, _ measured: Key) -> (predicted: Double, measured: Double)? {
    guard let predicted = number(predicted), let measured = number(measured) else { return nil }
    return (predicted, measured)
  }

  func text(_ key: Key, upTo longest: Int) -> String? { (self[key] as? String)?.shortened(to: longest) }

  /// The members of an object whose keys are names, such as those of terms, in the order of the names: if they are too
  /// many, or too long, the same ones are kept each time.
  func members(_ key: Key) -> [(String, Any)] {
    (self[key] as? [String: Any] ?? [:]).sorted { $0.key < $1.key }
      .map { ($0.key.shortened(to: LogReader.name), $0.value) }
  }
}

private enum LogNumber {
  /// A number, or a word for a number that JSON cannot express.
  static func read(_ value: Any?) -> Double? {
    switch value {
    case let number as Double: number
    case let number as Int: Double(number)
    case let word as String: LogEvent.nonFinite[word]
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

/// The lines that a file has at `init`, in bounded memory however long the file or a line is.
struct LogLines {
  /// A line's bytes without its newline; or it is longer than `longest` bytes.
  enum Line {
    case text(ArraySlice<UInt8>)
    case tooLong
  }

  /// A line of the log has a few thousand bytes; one with a list of changes may have more.
  static let longest = 1 << 20
  private let file: OpenFile
  private let size: Int
  private var offset = 0
  private var chunk: ArraySlice<UInt8> = []
  /// True if the last line lacks its newline: it was being written when the run died, or is now.
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
