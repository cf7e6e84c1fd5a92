internal import Foundation
public import Tensor

/// A thread that runs collectives while the caller computes, because MPI makes no progress by itself. Every rank must
/// submit the same work, which runs in that order. While it waits for ranks inside MPI, it yields its core (`Job.run`).
public final class CommunicationThread: Sendable {
  private let state = State()

  /// If the system refuses the thread, `wait` and `check` throw a `ThreadError`, and no work runs.
  ///
  /// - Parameter ranks: must not be used elsewhere while work is under way.
  public init(_ name: String, over ranks: Communicator) {
    do { try SystemThread.start(name) { [state] in state.work(ranks) } } catch { state.fail(error) }
  }

  deinit { state.end() }

  /// Runs `work` after all earlier submissions. Returns its number, for `wait(for:)`.
  @discardableResult
  public func submit(_ work: @escaping @Sendable (Communicator) throws -> Void) -> Int { state.submit(work) }
  /// Waits until the work up to this number, or all, is done. Throws the first error, after which no more work runs.
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
        let outcome = Result { try next(ranks) }
        change {
          done += 1
          guard case .failure(let error) = outcome else { return }
          (failure, queue, ended) = (error, [], true)
        }
      }
    }

    func fail(_ error: any Error) { change { (failure, ended) = (error, true) } }

    private func take() -> (@Sendable (Communicator) throws -> Void)? {
      condition.withLock {
        while queue.isEmpty, !ended { condition.wait() }
        return queue.isEmpty ? nil : queue.removeFirst()
      }
    }

    /// Changes the state and wakes all that wait for a change.
    private func change(_ body: () -> Void) {
      condition.withLock {
        body()
        condition.broadcast()
      }
    }

    func submit(_ work: @escaping @Sendable (Communicator) throws -> Void) -> Int {
      condition.withLock {
        submitted += 1
        if failure == nil { queue.append(work) }
        condition.broadcast()
        return submitted
      }
    }

    func wait(for number: Int?) throws {
      try condition.withLock {
        while failure == nil, done < number ?? submitted { condition.wait() }
        if let failure { throw failure }
      }
    }

    func check() throws { try condition.withLock { if let failure { throw failure } } }
    func end() { change { ended = true } }
  }
}

/// Gathers sharded numbers while the caller computes. Every rank must start the same stages in the same order.
public final class GatherAhead<S: Scalar>: Sendable {
  private let values: Tensor<S>
  private let stages: [[Range<Int>]]
  private let thread: CommunicationThread

  /// Gathers the ranges of each stage within `values`. `ranks` must not be used elsewhere while stages are under way.
  public init(_ values: Tensor<S>, stages: [[Range<Int>]], over ranks: Communicator) {
    (self.values, self.stages) = (values, stages)
    thread = CommunicationThread("gather", over: ranks)
  }

  /// Returns the part of a range that each rank keeps: equal numbers of whole 64-byte lines.
  public static func parts(of range: Range<Int>, ranks: Int) -> [Range<Int>] {
    let line = Arena<S>.alignment / MemoryLayout<S>.stride
    return (0..<ranks).map { rank in
      let own = Communicator.slice(of: (range.count + line - 1) / line, rank: rank, size: ranks)
      let lines = own.lowerBound * line..<own.upperBound * line
      return lines.moved(by: range.lowerBound).clamped(to: range)
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
