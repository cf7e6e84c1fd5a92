internal import Foundation
internal import Synchronization

/// Collects spans of all threads and writes them to one rank's file.
///
/// A write replaces the closing bracket by spans and a bracket, so the file is whole JSON between any two.
final class TraceWriter: Sendable {
  private struct State {
    var zero = ContinuousClock.now
    /// Where the closing bracket is.
    var end: UInt64 = 0
    var pending = Data()
    /// Threads by name, in the order in which they came.
    var threads: [String] = []
  }

  private static let closing = Data("\n]\n".utf8)

  private let path: String
  private let rank: Int
  private let file: FileHandle
  private let state = Mutex(State())

  init(_ path: String, rank: Int, host: String) throws(FileError) {
    self.path = path
    self.rank = rank
    do {
      try Data().write(to: URL(filePath: path))
      file = try FileHandle(forWritingTo: URL(filePath: path))
    } catch {
      throw FileError(
        action: "create", path: path, reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
    try state.withLock { state throws(FileError) in
      state.pending = Data("[\n\(name(of: "process", "rank \(rank) on \(host)"))".utf8)
      try write(&state)
    }
  }

  deinit { try? file.close() }

  /// Times count from now.
  func begin() { state.withLock { $0.zero = .now } }

  func add(
    _ span: String, _ kind: Trace.Kind, _ start: ContinuousClock.Instant, _ end: ContinuousClock.Instant, thread: String
  ) {
    state.withLock { state in
      let place: Int
      if let known = state.threads.firstIndex(of: thread) {
        place = known
      } else {
        place = state.threads.count
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
    try state.withLock { state throws(FileError) in
      if !state.pending.isEmpty { try write(&state) }
    }
  }

  private func write(_ state: inout State) throws(FileError) {
    do {
      try file.seek(toOffset: state.end)
      try file.write(contentsOf: state.pending + Self.closing)
    } catch {
      throw FileError(action: "write", path: path, reason: (error as NSError).localizedFailureReason ?? "\(error)")
    }
    state.end += UInt64(state.pending.count)
    state.pending = Data()
  }

  /// The line that gives a process or thread its name in the viewer.
  private func name(of what: String, _ text: String, _ thread: Int = 0) -> String {
    let plain = text.filter { $0 != "\"" && $0 != "\\" }
    return
      "{\"name\":\"\(what)_name\",\"ph\":\"M\",\"pid\":\(rank),\"tid\":\(thread),\"args\":{\"name\":\"\(plain)\"}}"
  }

  /// Whole nanoseconds, as decimals of microseconds.
  private static func microseconds(_ duration: Duration) -> String {
    let nanoseconds =
      Int(duration.components.seconds) * 1_000_000_000 + Int(duration.components.attoseconds) / 1_000_000_000
    let digits = String(abs(nanoseconds) % 1000)
    return
      "\(nanoseconds < 0 ? "-" : "")\(abs(nanoseconds) / 1000).\(String(repeating: "0", count: 3 - digits.count))\(digits)"
  }
}
