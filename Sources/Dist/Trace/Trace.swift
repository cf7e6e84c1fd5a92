internal import Foundation
internal import Synchronization

/// What a rank does when, as spans that chrome://tracing and Perfetto show; off unless started.
///
/// Every collective of every communicator is a span of the thread that calls it; what contains them is added by whoever
/// computes or waits. Off, a span costs one load.
public enum Trace {
  /// What kind of time a span is; the viewer colours by it.
  public enum Kind: String, Sendable {
    case compute, communication, wait, data
  }

  private static let isOn = Atomic<Bool>(false)
  private static let writer = Mutex<TraceWriter?>(nil)

  /// The file of a rank.
  public static func path(_ prefix: String, rank: Int) -> String { "\(prefix).\(rank).json" }

  /// Begins to write `PREFIX.RANK.json`; times count from here, which all ranks pass together. Every rank must call it.
  ///
  /// - Throws: `FileError` (exit code 74) where the file cannot be made; `MPIError`.
  public static func start(_ prefix: String, over ranks: Communicator) throws {
    let made = try TraceWriter(path(prefix, rank: ranks.rank), rank: ranks.rank, host: ranks.hostname)
    try ranks.barrier()
    made.begin()
    writer.withLock { $0 = made }
    isOn.store(true, ordering: .releasing)
  }

  /// Writes what is not written yet: the file is whole JSON whenever this returns, and stays so.
  public static func flush() throws {
    guard isOn.load(ordering: .acquiring) else { return }
    try writer.withLock { try $0?.flush() }
  }

  /// Runs `body` and notes when.
  public static func span<R, E: Error>(_ name: String, _ kind: Kind, _ body: () throws(E) -> R) throws(E) -> R {
    guard isOn.load(ordering: .acquiring) else { return try body() }
    let start = ContinuousClock.now
    defer { add(name, kind, from: start) }
    return try body()
  }

  private static func add(_ name: String, _ kind: Kind, from start: ContinuousClock.Instant) {
    let end = ContinuousClock.now
    let thread = Thread.isMainThread ? "main" : Thread.current.name ?? ""
    writer.withLock { $0?.add(name, kind, start, end, thread: thread) }
  }
}
