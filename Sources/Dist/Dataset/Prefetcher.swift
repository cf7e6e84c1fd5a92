internal import Foundation
internal import Tensor

/// Prepares a ring of batches, which the consumer recycles, ahead of their use in threads, in the order of the steps.
public final class Prefetcher<Item: Sendable, Batch: AnyObject & Sendable> {
  /// Prepares item number `index` of a batch.
  public typealias Worker = (_ batch: Batch, _ index: Int, _ item: Item) throws -> Void
  private let state: State
  /// The total number of seconds that `next` has waited.
  public private(set) var waited = 0.0

  /// Prepares the items of each step, which `plan` appends, in order, to an empty list with memory of earlier steps.
  /// `worker` is called once on each thread. If the system does not let this process have as many threads as there are
  /// `workers`, fewer do the work; if it refuses even the first, `next` throws a `ThreadError`.
  public init(
    steps: Range<Int>, batches: [Batch], workers: Int,
    append plan: @escaping @Sendable (_ step: Int, _ items: inout [Item]) throws -> Void,
    worker: @escaping @Sendable () throws -> Worker
  ) {
    precondition(batches.count >= 2 && workers >= 1)
    let state = State(steps: steps, batches: batches, plan: plan)
    self.state = state
    for number in 0..<workers {
      do {
        try SystemThread.start("loader \(number)", after: number, of: workers, stackBytes: 4 << 20) {
          state.work(worker)
        }
      } catch {
        if number > 0 { Job.report("kinship: warning: \(error)") } else { state.fail(error) }
        break
      }
    }
  }

  deinit { state.cancel() }

  /// Returns the batch of the next step, or nil after the last. An error of a worker is thrown when its step is due.
  public func next() throws -> Batch? {
    let start = ContinuousClock.now
    defer { waited += (ContinuousClock.now - start) / .seconds(1) }
    return try state.next()
  }

  /// Returns a batch of `next` to the ring.
  public func recycle(_ batch: Batch) { state.recycle(batch) }

  /// The state that workers and consumer share, behind one lock.
  private final class State: @unchecked Sendable {
    private struct Job {
      let batch: Batch
      var items: [Item]
      var started = 0
      var finished = 0
      /// The error of the failed item with the lowest index.
      var failure: (index: Int, error: any Error)?
    }

    private let condition = NSCondition()
    private let plan: @Sendable (Int, inout [Item]) throws -> Void
    private let steps: Range<Int>
    private var free: [Batch]
    private var jobs: [Int: Job] = [:]
    /// Empty lists for the items of coming steps, one for each batch of the ring.
    private var lists: [[Item]]
    private var wanted: Int
    private var planned: Int
    private var failure: (any Error)?
    private var cancelled = false

    init(steps: Range<Int>, batches: [Batch], plan: @escaping @Sendable (Int, inout [Item]) throws -> Void) {
      (self.steps, self.plan, free) = (steps, plan, batches)
      lists = batches.map { _ in [] }
      (wanted, planned) = (steps.lowerBound, steps.lowerBound)
    }

    func work(_ make: () throws -> Worker) {
      let prepare: Worker
      do { prepare = try make() } catch { return fail(error) }
      while let (step, batch, index, item) = take() {
        let outcome = Result { try prepare(batch, index, item) }
        change {
          jobs[step]?.finished += 1
          Progress.made()
          guard case .failure(let error) = outcome, index < jobs[step]?.failure?.index ?? Int.max else { return }
          jobs[step]?.failure = (index, error)
        }
      }
    }

    /// Changes the state and wakes all that wait for a change.
    private func change(_ body: () -> Void) {
      condition.withLock {
        body()
        condition.broadcast()
      }
    }

    /// Returns the next item of the oldest step that has any, or nil when there is nothing more to do.
    private func take() -> (step: Int, batch: Batch, index: Int, item: Item)? {
      condition.lock()
      defer { condition.unlock() }
      while !cancelled && failure == nil {
        for step in wanted..<planned {
          guard let job = jobs[step], job.started < job.items.count else { continue }
          jobs[step]?.started += 1
          return (step, job.batch, job.started, job.items[job.started])
        }
        if planned == steps.upperBound { return nil }
        guard let batch = free.popLast() else {
          condition.wait()
          continue
        }
        do {
          var items = lists.removeFirst()
          try plan(planned, &items)
          jobs[planned] = Job(batch: batch, items: items)
          planned += 1
        } catch { failure = error }
        condition.broadcast()
      }
      return nil
    }

    func next() throws -> Batch? {
      condition.lock()
      defer { condition.unlock() }
      guard wanted < steps.upperBound else { return nil }
      while true {
        if let batch = try takeFinished() {
          condition.broadcast()
          return batch
        }
        // An error outside of any step stops all workers, so an unfinished batch will never be finished.
        if let failure { throw failure }
        condition.wait()
      }
    }

    private func takeFinished() throws -> Batch? {
      let isFinished = jobs[wanted].map { $0.finished == $0.items.count } ?? false
      guard isFinished, var job = jobs.removeValue(forKey: wanted) else { return nil }
      if let failure = job.failure {
        jobs[wanted] = job
        throw failure.error
      }
      wanted += 1
      // Outside of the job the list is uniquely referenced, so it keeps its memory.
      var list: [Item] = []
      swap(&list, &job.items)
      list.removeAll(keepingCapacity: true)
      lists.append(list)
      return job.batch
    }

    func fail(_ error: any Error) { change { failure = failure ?? error } }
    func recycle(_ batch: Batch) { change { free.append(batch) } }
    func cancel() { change { cancelled = true } }
  }
}
