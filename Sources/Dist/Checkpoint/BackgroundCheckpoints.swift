internal import Foundation
internal import Synchronization
internal import Tensor

/// Writes the checkpoints of a run in a thread, while the ranks go on.
///
/// What is saved is a copy: `save` returns when this rank has made it, in memory that stays and that is as large as
/// what the rank writes. The threads of all ranks meet over a communicator of their own; a checkpoint that is still
/// being written holds the next one up. What goes wrong is thrown by the call after that.
public final class BackgroundCheckpoints {
  /// A checkpoint that is in its place.
  public struct Saved: Sendable {
    public let step: Int
    public let folder: String
    /// Why older checkpoints that should go could not be removed; known to rank 0.
    public let notRemoved: [String]
    /// How long this rank was held up: by the checkpoint before, and by the copy; without a copy by all of it.
    public let blocked: Double
    /// From the copy's end until it was in its place.
    public let seconds: Double
  }

  private let writer: CheckpointWriter
  private let thread: CommunicationThread
  private let inBackground: Bool
  private let done = Done()
  /// Values, both moments and any average of what this rank owns.
  private var buffer = Tensor<Float>(Shape(0))

  /// Every rank must call it.
  ///
  /// - Parameters:
  ///   - writer: tells the communicator of all ranks how to write to which folder.
  ///   - inBackground: false: `save` makes no copy, and returns when the checkpoint is in its place.
  public init(inBackground: Bool, over ranks: Communicator, writer: (Communicator) -> CheckpointWriter) throws {
    let own = try ranks.duplicate(name: "checkpoints")
    self.writer = writer(own)
    thread = CommunicationThread("checkpoints", over: own)
    self.inBackground = inBackground
  }

  /// Bytes that the copies of `count` scalars, with both their moments, take; with their average too if there is one.
  public static func bytes(of count: Int, averaged: Bool) -> Int {
    numbers(of: count, averaged: averaged) * MemoryLayout<Float>.stride
  }

  private static func numbers(of count: Int, averaged: Bool) -> Int {
    CheckpointPart.Group.all(averaged: averaged).count * count
  }

  /// Takes the memory for copies of so many scalars, so that the first checkpoint costs no more than the others.
  public func reserve(_ count: Int, averaged: Bool) {
    let numbers = Self.numbers(of: count, averaged: averaged)
    if inBackground, buffer.count != numbers { buffer = Tensor(Shape(numbers)) }
  }

  /// Begins to write a checkpoint. All ranks call it, with their own ranges of one arena and the same record;
  /// afterwards the arena may change.
  ///
  /// - Throws: `CheckpointError` of this checkpoint or an earlier one, exit code 74; `MPIError`.
  public func save(_ state: CheckpointState, _ record: CheckpointRecord) throws {
    let start = ContinuousClock.now
    try Trace.span("wait for the checkpoint before", .wait) { try thread.wait() }
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

  /// The checkpoints that have come into their place since the last call. Throws what has gone wrong.
  public func finished() throws -> [Saved] {
    try thread.check()
    return done.take()
  }

  /// Waits until nothing is being written.
  public func wait() throws { try Trace.span("wait for a checkpoint", .wait) { try thread.wait() } }

  private func copied(_ state: CheckpointState) -> CheckpointState {
    reserve(state.ownCount, averaged: state.average != nil)
    return state.copied(into: buffer)
  }

  /// What the thread has to tell.
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
