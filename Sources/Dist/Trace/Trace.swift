internal import Foundation
internal import Synchronization

/// Records the activities of a rank as spans for chrome://tracing and Perfetto. If not started, a span costs one load.
public enum Trace {
  /// The category of a span, by which the viewer chooses its color.
  public enum Kind: String, Sendable { case compute, communication, wait, data }

  private static let isOn = Atomic<Bool>(false)
  private static let writer = Mutex<TraceWriter?>(nil)

  /// Starts to write `PREFIX.RANK.json`. Every rank must call it. Throws `MPIError`, or `FileError` (exit code 74).
  public static func start(_ prefix: String, over ranks: Communicator) throws {
    let made = try TraceWriter("\(prefix).\(ranks.rank).json", rank: ranks.rank, host: ranks.hostname)
    try ranks.barrier()
    made.begin()
    writer.withLock { $0 = made }
    isOn.store(true, ordering: .releasing)
  }

  /// Writes all pending spans. The file is complete JSON whenever this returns.
  public static func flush() throws {
    guard isOn.load(ordering: .acquiring) else { return }
    try writer.withLock { try $0?.flush() }
  }

  /// Runs `body` and records it as a span.
  public static func span<R, E: Error>(_ name: String, _ kind: Kind, _ body: () throws(E) -> R) throws(E) -> R {
    guard isOn.load(ordering: .acquiring) else { return try body() }
    let start = ContinuousClock.now
    defer { add(name, kind, from: start) }
    return try body()
  }

  private static func add(_ name: String, _ kind: Kind, from start: ContinuousClock.Instant) {
    let end = ContinuousClock.now
    let thread = Thread.isMainThread ? "main" : Thread.current.name ?? ""
    writer.withLock { $0?.add(name, kind, from: start, to: end, thread: thread) }
  }
}

/// Collects the spans of all threads. Each write replaces the closing bracket, so the file is JSON between writes.
final class TraceWriter: Sendable {
  private struct State {
    var zero = ContinuousClock.now
    var end: UInt64 = 0
    var pending = Data()
    var threads: [String] = []
  }

  private static let closing = Data("\n]\n".utf8)
  private let path: String
  private let rank: Int
  private let file: FileHandle
  private let state = Mutex(State())

  init(_ path: String, rank: Int, host: String) throws(FileError) {
    (self.path, self.rank) = (path, rank)
    // Opening a pipe that nobody reads would wait forever.
    try OpenFile.requireNoOther(path)
    do {
      try Data().write(to: URL(filePath: path))
      file = try FileHandle(forWritingTo: URL(filePath: path))
    } catch { throw TraceWriter.failure("create", path, error) }
    try state.withLock { state throws(FileError) in
      state.pending = Data("[\n\(name(of: "process", "rank \(rank) on \(host)"))".utf8)
      try write(&state)
    }
  }

  deinit { try? file.close() }

  func begin() { state.withLock { $0.zero = .now } }

  func add(
    _ span: String, _ kind: Trace.Kind, from start: ContinuousClock.Instant, to end: ContinuousClock.Instant,
    thread: String
  ) {
    state.withLock { state in
      let place = state.threads.firstIndex(of: thread) ?? state.threads.count
      if place == state.threads.count {
        state.threads.append(thread)
        state.pending += Data(",\n\(name(of: "thread", thread, place))".utf8)
      }
      let line =
        ",\n{\"name\":\"\(span)\",\"cat\":\"\(kind.rawValue)\",\"ph\":\"X\",\"pid\":\(rank),\"tid\":\(place),"
        + "\"ts\":\(Self.microseconds(start - state.zero)),\"dur\":\(Self.microseconds(end - start))}"
      state.pending += Data(line.utf8)
    }
  }

  func flush() throws(FileError) {
    try state.withLock { state throws(FileError) in if !state.pending.isEmpty { try write(&state) } }
  }

  private func write(_ state: inout State) throws(FileError) {
    do {
      try file.seek(toOffset: state.end)
      try file.write(contentsOf: state.pending + Self.closing)
    } catch { throw Self.failure("write", path, error) }
    state.end += UInt64(state.pending.count)
    state.pending = Data()
  }

  private static func failure(_ action: String, _ path: String, _ error: any Error) -> FileError {
    FileError(action: action, path: path, reason: error.explanation)
  }

  /// Returns the event that sets the name of a process or thread in the viewer.
  private func name(of what: String, _ text: String, _ thread: Int = 0) -> String {
    let plain = text.filter { $0 != "\"" && $0 != "\\" }
    return "{\"name\":\"\(what)_name\",\"ph\":\"M\",\"pid\":\(rank),\"tid\":\(thread),\"args\":{\"name\":\"\(plain)\"}}"
  }

  /// Returns a duration in microseconds, with three decimals for whole nanoseconds.
  private static func microseconds(_ duration: Duration) -> String {
    let (seconds, attoseconds) = duration.components
    let nanoseconds = Int(seconds) * 1_000_000_000 + Int(attoseconds) / 1_000_000_000
    return "\(nanoseconds < 0 ? "-" : "")\(abs(nanoseconds) / 1000).\((abs(nanoseconds) % 1000).digits(3))"
  }
}
