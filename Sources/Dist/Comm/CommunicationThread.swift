internal import Foundation
public import Tensor

/// A thread that runs collectives while the caller computes, because MPI makes no progress by itself.
///
/// Submitted work runs one after another, in the order of submission. Every rank must submit the same work. The thread
/// sleeps while it has no work; while it waits for other ranks inside MPI, it yields its core to computing threads
/// (`Job.run`).
public final class CommunicationThread: Sendable {
  private let state = State()

  /// - Parameter ranks: must not be used elsewhere while work is under way.
  public init(_ name: String, over ranks: Communicator) {
    Thread.detachNewThread { [state] in
      // A name does not stick until the starting thread has registered the new one.
      while Thread.current.name != name {
        Thread.current.name = name
        Thread.sleep(forTimeInterval: 1e-5)
      }
      state.work(ranks)
    }
  }

  deinit { state.end() }

  /// Runs `work` after all earlier submissions. Returns its number, for `wait(for:)`.
  @discardableResult
  public func submit(_ work: @escaping @Sendable (Communicator) throws -> Void) -> Int { state.submit(work) }

  /// Waits until the work of this number, and all before it, is done; nil waits for all work. Throws the first error,
  /// after which no more work runs.
  public func wait(for number: Int? = nil) throws { try state.wait(for: number) }

  /// Throws the first error so far, without waiting.
  public func check() throws { try state.check() }

  private final class State: @unchecked Sendable {
    private let condition = NSCondition()
    private var queue: [@Sendable (Communicator) throws -> Void] = []
    private var submitted = 0
    private var done = 0
    private var ended = false
    private var failure: (any Error)?

    func work(_ ranks: Communicator) {
      while let next = take() {
        var failure: (any Error)?
        do { try next(ranks) } catch { failure = error }
        finish(failure)
      }
    }

    private func take() -> (@Sendable (Communicator) throws -> Void)? {
      condition.lock()
      defer { condition.unlock() }
      while queue.isEmpty {
        if ended { return nil }
        condition.wait()
      }
      return queue.removeFirst()
    }

    private func finish(_ failure: (any Error)?) {
      condition.lock()
      defer { condition.unlock() }
      done += 1
      if let failure {
        self.failure = failure
        queue = []
        ended = true
      }
      condition.broadcast()
    }

    func submit(_ work: @escaping @Sendable (Communicator) throws -> Void) -> Int {
      condition.lock()
      defer { condition.unlock() }
      submitted += 1
      if failure == nil { queue.append(work) }
      condition.broadcast()
      return submitted
    }

    func wait(for number: Int?) throws {
      condition.lock()
      defer { condition.unlock() }
      while failure == nil, done < number ?? submitted { condition.wait() }
      if let failure { throw failure }
    }

    func check() throws {
      condition.lock()
      defer { condition.unlock() }
      if let failure { throw failure }
    }

    func end() {
      condition.lock()
      defer { condition.unlock() }
      ended = true
      condition.broadcast()
    }
  }
}

/// Gathers sharded numbers, one stage at a time, while the caller computes.
///
/// Every rank must start the same stages in the same order. After `wait` nothing is under way.
public final class GatherAhead<S: Scalar>: Sendable {
  private let values: Tensor<S>
  private let stages: [[Range<Int>]]
  private let thread: CommunicationThread

  /// - Parameters:
  ///   - values: holds every number at its place; this rank's parts are valid before they are gathered.
  ///   - stages: the ranges that each stage gathers. Each range is sharded in equal parts of whole 64-byte lines.
  ///   - ranks: must not be used elsewhere while stages are under way.
  public init(_ values: Tensor<S>, stages: [[Range<Int>]], over ranks: Communicator) {
    self.values = values
    self.stages = stages
    thread = CommunicationThread("gather", over: ranks)
  }

  /// Returns the part of a range that each rank keeps.
  public static func parts(of range: Range<Int>, ranks: Int) -> [Range<Int>] {
    let line = Arena<S>.alignment / MemoryLayout<S>.stride
    return (0..<ranks).map { rank in
      let own = Communicator.slice(of: (range.count + line - 1) / line, rank: rank, size: ranks)
      return min(
        range.lowerBound + own.lowerBound * line, range.upperBound)..<min(
          range.lowerBound + own.upperBound * line, range.upperBound)
    }
  }

  /// Starts to gather a stage, after all stages that were started before.
  public func start(_ stage: Int) {
    thread.submit { [values, ranges = stages[stage]] ranks in
      for range in ranges { try ranks.allGather(partsOf: values, ranges: Self.parts(of: range, ranks: ranks.size)) }
    }
  }

  /// Waits until all started stages are gathered, and throws their first error.
  public func wait() throws { try thread.wait() }
}
