internal import Foundation
internal import Synchronization
internal import Tensor

/// Writes checkpoints on a thread, from copies, while training continues. An error is thrown by the next call.
public final class BackgroundCheckpoints {
  /// A published checkpoint.
  public struct Saved: Sendable {
    public let step: Int
    public let folder: String
    /// The errors of older checkpoints that could not be removed. It is empty on all ranks but 0.
    public let notRemoved: [String]
    /// The seconds that `save` took on this rank: for the previous checkpoint and the copy, or all of the write.
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

  /// Every rank must call it. Unless `inBackground`, `save` makes no copy and returns when the checkpoint is published.
  public init(
    inBackground: Bool, over ranks: Communicator, writer: (Communicator) throws -> CheckpointWriter
  ) throws {
    let own = try ranks.duplicate(name: "checkpoints")
    self.writer = try writer(own)
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

  /// Begins to write this rank's ranges. Every rank must call it. Throws this or an earlier `CheckpointError`.
  public func save(_ state: CheckpointState, _ record: CheckpointRecord) throws {
    let start = ContinuousClock.now
    try Trace.span("wait for the previous checkpoint", .wait) { try thread.wait() }
    if inBackground { reserve(state.ownCount, averaged: state.average != nil) }
    let state = inBackground ? Trace.span("copy for a checkpoint", .data) { state.copied(into: buffer) } : state
    let released = ContinuousClock.now
    let blocked = (released - start) / .seconds(1)
    thread.submit { [writer, done, inBackground] _ in
      let receipt = try Trace.span("write checkpoint \(record.step)", .data) { try writer.write(state, record) }
      let seconds = (ContinuousClock.now - released) / .seconds(1)
      let saved = Saved(
        step: record.step, folder: receipt.folder, notRemoved: receipt.notRemoved,
        blocked: inBackground ? blocked : blocked + seconds, seconds: seconds)
      done.list.withLock { $0.append(saved) }
    }
    if !inBackground { try wait() }
  }

  /// Marks a checkpoint as the best once all that are being written are published; with nil, none. Every rank must call
  /// it.
  public func mark(best figure: BestFigure?) throws {
    try thread.check()
    thread.submit { [writer] _ in try writer.mark(best: figure) }
    if !inBackground { try wait() }
  }

  /// Returns the checkpoints that were published since the last call. Throws the first error of the thread.
  public func finished() throws -> [Saved] {
    try thread.check()
    return done.list.withLock { list in
      defer { list = [] }
      return list
    }
  }

  /// Waits until all checkpoints are published.
  public func wait() throws { try Trace.span("wait for a checkpoint", .wait) { try thread.wait() } }

  private final class Done: Sendable { let list = Mutex<[Saved]>([]) }
}
