internal import Foundation
public import Tensor

/// Brings together, a stage at a time, numbers of which each rank keeps a part, on a thread of its own: while the caller
/// computes, for MPI does nothing by itself.
///
/// Every rank must start the same stages in the same order. The thread waits in MPI, which yields its core to whoever
/// computes (`Job.run`). Nothing is under way once all that was started has been waited for.
public final class GatherAhead<S: Scalar>: Sendable {
  private let state: State

  /// - Parameters:
  ///   - values: where each number has its place.
  ///   - stages: of each stage the ranges that are gathered, each in equal parts of whole 64-byte lines.
  ///   - ranks: used by nobody else while stages are under way.
  public init(_ values: Tensor<S>, stages: [[Range<Int>]], over ranks: Communicator) {
    let state = State(values, stages: stages, ranks: ranks)
    self.state = state
    let thread = Thread { state.work() }
    thread.name = "gather"
    thread.start()
  }

  deinit { state.end() }

  /// The parts of a range that each rank keeps.
  public static func parts(of range: Range<Int>, ranks: Int) -> [Range<Int>] {
    let line = Arena<S>.alignment / MemoryLayout<S>.stride
    return (0..<ranks).map { rank in
      let own = Communicator.slice(of: (range.count + line - 1) / line, rank: rank, size: ranks)
      return min(
        range.lowerBound + own.lowerBound * line, range.upperBound)..<min(
          range.lowerBound + own.upperBound * line, range.upperBound)
    }
  }

  /// Begins to gather a stage, after those that were started before.
  public func start(_ stage: Int) { state.start(stage) }

  /// Returns when all that was started is there; throws what went wrong with it.
  public func wait() throws { try state.wait() }

  private final class State: @unchecked Sendable {
    private let condition = NSCondition()
    private let values: Tensor<S>
    private let stages: [[Range<Int>]]
    private let ranks: Communicator
    private var queue: [Int] = []
    private var busy = false
    private var ended = false
    private var failure: (any Error)?

    init(_ values: Tensor<S>, stages: [[Range<Int>]], ranks: Communicator) {
      self.values = values
      self.stages = stages
      self.ranks = ranks
    }

    func work() {
      while let stage = take() {
        var failure: (any Error)?
        do {
          for range in stages[stage] {
            try ranks.gatherSlices(in: values, ranges: GatherAhead.parts(of: range, ranks: ranks.size))
          }
        } catch { failure = error }
        finish(failure)
      }
    }

    private func take() -> Int? {
      condition.lock()
      defer { condition.unlock() }
      while queue.isEmpty {
        if ended { return nil }
        condition.wait()
      }
      busy = true
      return queue.removeFirst()
    }

    private func finish(_ failure: (any Error)?) {
      condition.lock()
      defer { condition.unlock() }
      busy = false
      self.failure = self.failure ?? failure
      condition.broadcast()
    }

    func start(_ stage: Int) {
      condition.lock()
      defer { condition.unlock() }
      queue.append(stage)
      condition.broadcast()
    }

    func wait() throws {
      condition.lock()
      defer { condition.unlock() }
      while busy || !queue.isEmpty { condition.wait() }
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
