import Dist
import Foundation

/// Reads a run's log, whatever its state: a line that cannot be understood is counted and left out, and where steps
/// were done twice the later line counts.
struct LogReader {
  /// So many of each that may come without end are kept, the last ones.
  static let kept = 1000

  private var history = RunHistory()
  private var segmentBegin: String?

  /// Throws a `ReportError`.
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
    if case .text(let bytes) = line,
      let object = try? JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any],
      let event = object["event"] as? String, let step = Self.step(object["step"]), take(event, step, object)
    {
      history.lastTime = Self.text(object["time"], Self.name) ?? history.lastTime
      return
    }
    history.unreadable += 1
    history.firstUnreadable = history.firstUnreadable ?? history.lines
  }

  /// Takes an event; false where it lacks what such an event has. What is not known is left out without a word: a later
  /// release may write more.
  private mutating func take(_ event: String, _ step: Int, _ object: [String: Any]) -> Bool {
    switch event {
    case "start":
      endSegment()
      segmentBegin = Self.text(object["time"], Self.name)
      goBack(to: step)
      let changes = object["changes"] as? [Any] ?? []
      history.starts.append(
        .init(
          step: step, ranks: object["ranks"] as? Int, version: Self.text(object["version"], Self.name),
          changes: changes.prefix(100).compactMap { Self.text($0, 500) }, time: segmentBegin))
      if history.starts.count > Self.kept { history.starts.remove(at: 1) }
    case "header":
      let facts = object["facts"] as? [[String: Any]] ?? []
      history.facts = facts.prefix(100).compactMap { fact in
        guard let name = Self.text(fact["name"], Self.name), let text = Self.text(fact["text"], 2000) else {
          return nil
        }
        return RunHeader.Fact(name: name, text: text)
      }
    case "step":
      guard Self.number(object["loss"]) != nil else { return false }
      takeStep(step, object)
    case "evaluation":
      guard let name = Self.text(object["evaluation"], Self.name), let figures = object["figures"] as? [String: Any]
      else {
        return false
      }
      take(evaluation: name, step, figures.compactMapValues(Self.number))
    case "checkpoint":
      guard let path = Self.text(object["folder"], 4096) else { return false }
      // The run's folder may be elsewhere now.
      let folder = String(URL(filePath: path).lastPathComponent.prefix(Self.name))
      history.checkpoints.removeAll { $0.folder == folder }
      history.checkpoints.append(
        .init(
          step: step, folder: folder, blockedSeconds: Self.number(object["blocked_seconds"]),
          writtenSeconds: Self.number(object["written_seconds"])))
      if history.checkpoints.count > Self.kept { history.checkpoints.removeFirst() }
    case "note":
      guard let text = Self.text(object["note"], 2000) else { return false }
      history.notes.append(.init(step: step, text: text))
      if history.notes.count > Self.kept { history.notes.removeFirst() }
    case "outcome":
      guard let memory = Self.pair(object, "memory_"), let seconds = Self.pair(object, "step_seconds_") else {
        return false
      }
      history.outcome = .init(memory: memory, stepSeconds: seconds)
    default: break
    }
    return true
  }

  private mutating func takeStep(_ step: Int, _ object: [String: Any]) {
    var values: [(StepTable.Figure, Double)] = []
    func add(_ figure: StepTable.Figure, _ value: Any?) {
      if let number = Self.number(value) { values.append((figure, number)) }
    }
    func addAll(_ key: String, _ figure: (String) -> StepTable.Figure) {
      for (name, value) in object[key] as? [String: Any] ?? [:] { add(figure(Self.short(name, Self.name)), value) }
    }
    for (figure, key) in Self.plain { add(figure, object[key]) }
    addAll("terms", StepTable.Figure.term)
    addAll("term_weights", StepTable.Figure.termWeight)
    for (name, found) in object["anchors"] as? [String: Any] ?? [:] {
      let (name, found) = (Self.short(name, Self.name), found as? [String: Any] ?? [:])
      add(.divergence(name), found["divergence_mean"])
      add(.divergenceDeviation(name), found["divergence_deviation"])
      add(.anchorWeight(name), found["weight_mean"])
      add(.anchorWeightDeviation(name), found["weight_deviation"])
    }
    if let pruning = object["pruning"] as? [String: Any] {
      add(.prunedExpected, pruning["expected"])
      add(.prunedTarget, pruning["target"])
    }
    history.superseded += history.table.append(step, values)
    dropEvaluations(from: step)
    history.plannedSteps = Self.step(object["steps"]) ?? history.plannedSteps
    history.epoch = Self.number(object["epoch"])
    // A run that goes on has not ended.
    history.outcome = nil
  }

  private static let plain: [(StepTable.Figure, String)] = [
    (.loss, "loss"), (.rate, "rate"), (.logitScale, "logit_scale"), (.gradientNorm, "gradient_norm"),
    (.samplesPerSecond, "samples_per_second"), (.dataWait, "data_wait"), (.teacherShare, "teacher_share"),
    (.receivedBytes, "received_bytes"),
  ]

  /// So many evaluations of other names, and of one name, are kept.
  private static let evaluationsKept = 64

  private mutating func take(evaluation name: String, _ step: Int, _ figures: [String: Double]) {
    let place =
      history.evaluations.firstIndex { $0.name == name }
      ?? {
        history.evaluations.append((name, []))
        return history.evaluations.count - 1
      }()
    guard place < Self.evaluationsKept else {
      history.evaluations.removeLast()
      return
    }
    while let last = history.evaluations[place].rounds.last, last.step >= step {
      history.evaluations[place].rounds.removeLast()
    }
    let kept = figures.sorted { $0.key < $1.key }.prefix(32).map { (Self.short($0.key, Self.name), $0.value) }
    history.evaluations[place].rounds.append(.init(step: step, figures: Dictionary(kept) { first, _ in first }))
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

  /// A number, or one of the words that stand for those that JSON has not.
  static func number(_ value: Any?) -> Double? {
    switch value {
    case let number as Double: number
    case let number as Int: Double(number)
    case "nan" as String: .nan
    case "inf" as String: .infinity
    case "-inf" as String: -.infinity
    default: nil
    }
  }

  /// A step: a whole number that a chart can tell from its neighbours.
  private static func step(_ value: Any?) -> Int? {
    guard let number = number(value), number >= 0, number < 0x1p53, number == number.rounded() else { return nil }
    return Int(number)
  }

  /// So much is kept of a name.
  private static let name = 200

  /// A text, of a long one its beginning.
  private static func text(_ value: Any?, _ longest: Int) -> String? { (value as? String).map { short($0, longest) } }

  private static func short(_ text: String, _ longest: Int) -> String {
    text.utf8.count > longest && text.count > longest ? text.prefix(longest - 1) + "…" : text
  }

  private static func pair(_ object: [String: Any], _ prefix: String) -> (predicted: Double, measured: Double)? {
    guard let predicted = number(object[prefix + "predicted"]), let measured = number(object[prefix + "measured"])
    else {
      return nil
    }
    return (predicted, measured)
  }
}
