internal import Foundation
internal import Synchronization
internal import Tensor

/// Writes the checkpoints of a run on a thread, while training continues.
///
/// `save` copies what the rank writes into memory that is kept for the next checkpoint, and returns. The threads of all
/// ranks have a communicator of their own. A checkpoint that is still being written delays the next one. Errors of the
/// thread are thrown by the next call.
public final class BackgroundCheckpoints {
  /// A published checkpoint.
  public struct Saved: Sendable {
    public let step: Int
    public let folder: String
    /// The errors of older checkpoints that could not be removed. It is empty on all ranks but 0.
    public let notRemoved: [String]
    /// The seconds that `save` took on this rank: for the previous checkpoint and the copy, or without a copy for all
    /// of the write.
    public let blocked: Double
    /// The seconds from the end of the copy until the checkpoint was published.
    public let seconds: Double
  }

  private let writer: CheckpointWriter
  private let thread: CommunicationThread
  private let inBackground: Bool
  private let done = Done()
  /// The copy of this rank's values, moments and, if there is one, average.
  private var buffer = Tensor<Float>(Shape(0))

  /// Every rank must call it.
  ///
  /// - Parameters:
  ///   - inBackground: if false, `save` makes no copy, and returns when the checkpoint is published.
  ///   - writer: makes the writer that uses the given communicator.
  public init(inBackground: Bool, over ranks: Communicator, writer: (Communicator) -> CheckpointWriter) throws {
    let own = try ranks.duplicate(name: "checkpoints")
    self.writer = writer(own)
    thread = CommunicationThread("checkpoints", over: own)
    self.inBackground = inBackground
  }

  /// Returns the bytes of the copies of `count` scalars and their moments, and if `averaged` of their average.
  public static func bytes(of count: Int, averaged: Bool) -> Int {
    numbers(of: count, averaged: averaged) * MemoryLayout<Float>.stride
  }

  private static func numbers(of count: Int, averaged: Bool) -> Int {
    CheckpointPart.Group.all(averaged: averaged).count * count
  }

  /// Allocates the memory for copies of `count` scalars, so that the first checkpoint costs no more than the others.
  public func reserve(_ count: Int, averaged: Bool) {
    let numbers = Self.numbers(of: count, averaged: averaged)
    if inBackground, buffer.count != numbers { buffer = Tensor(Shape(numbers)) }
  }

  /// Begins to write a checkpoint. Every rank must call it, with its own ranges of one arena and the same record. The
  /// arena may change afterwards.
  ///
  /// - Throws: the `CheckpointError` (exit code 74) of this checkpoint or an earlier one; `MPIError`.
  public func save(_ state: CheckpointState, _ record: CheckpointRecord) throws {
    let start = ContinuousClock.now
    try Trace.span("wait for the previous checkpoint", .wait) { try thread.wait() }
    let state = inBackground ? Trace.span("copy for a checkpoint", .data) { copied(state) } : state
    let released = ContinuousClock.now
    let blocked = (released - start) / .seconds(1)
    thread.submit { [writer, done, inBackground] _ in
      let receipt = try Trace.span("write checkpoint \(record.step)", .data) { try writer.write(state, record) }
      let seconds = (ContinuousClock.now - released) / .seconds(1)
      done.add(
        Saved(
          step: record.step, folder: receipt.folder, notRemoved: receipt.notRemoved,
          blocked: inBackground ? blocked : blocked + seconds, seconds: seconds))
    }
    if !inBackground { try wait() }
  }

  /// Returns the checkpoints that were published since the last call. Throws the first error of the thread.
  public func finished() throws -> [Saved] {
    try thread.check()
    return done.take()
  }

  /// Waits until all checkpoints are published.
  public func wait() throws { try Trace.span("wait for a checkpoint", .wait) { try thread.wait() } }

  private func copied(_ state: CheckpointState) -> CheckpointState {
    reserve(state.ownCount, averaged: state.average != nil)
    return state.copied(into: buffer)
  }

  /// The published checkpoints, which the thread adds and the caller takes.
  private final class Done: Sendable {
    private let list = Mutex<[Saved]>([])

    func add(_ saved: Saved) { list.withLock { $0.append(saved) } }

    func take() -> [Saved] {
      list.withLock { list in
        defer { list = [] }
        return list
      }
    }
  }
}
