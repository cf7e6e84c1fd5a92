internal import Foundation

/// Prepares batches ahead of their use, in threads, and hands them out in the order of the steps.
///
/// A fixed ring of batches goes round: the consumer gives each back when it is done with it, so that no memory of
/// pictures is ever allocated anew, and no list of items. The samples of one batch are prepared by all workers
/// together.
public final class Prefetcher<Item: Sendable, Batch: AnyObject & Sendable> {
  /// Prepares item number `index` of a batch.
  public typealias Worker = (_ batch: Batch, _ index: Int, _ item: Item) throws -> Void

  private let state: State
  /// Seconds that `next` has waited in all.
  public private(set) var waited = 0.0

  /// - Parameters:
  ///   - steps: the steps to prepare, in order.
  ///   - batches: the ring, at least two: one in use while others are prepared.
  ///   - workers: how many threads.
  ///   - plan: the items of a step; called once for each step, in order, by one thread at a time.
  ///   - worker: called once on each thread: makes what that thread prepares with.
  public convenience init(
    steps: Range<Int>, batches: [Batch], workers: Int, plan: @escaping @Sendable (Int) throws -> [Item],
    worker: @escaping @Sendable () throws -> Worker
  ) {
    self.init(
      steps: steps, batches: batches, workers: workers, append: { $1 += try plan($0) }, worker: worker)
  }

  /// The same with a plan that appends the items of a step to a list, which is empty and has memory of earlier steps.
  public init(
    steps: Range<Int>, batches: [Batch], workers: Int,
    append plan: @escaping @Sendable (_ step: Int, _ items: inout [Item]) throws -> Void,
    worker: @escaping @Sendable () throws -> Worker
  ) {
    precondition(batches.count >= 2 && workers >= 1)
    let state = State(steps: steps, batches: batches, plan: plan)
    self.state = state
    for number in 0..<workers {
      let thread = Thread { state.work(worker) }
      thread.name = "loader \(number)"
      thread.stackSize = 4 << 20
      thread.start()
    }
  }

  deinit { state.cancel() }

  /// The batch of the next step; nil after the last. Throws what a worker threw, when its step's turn comes.
  public func next() throws -> Batch? {
    let start = ContinuousClock.now
    defer { waited += (ContinuousClock.now - start) / .seconds(1) }
    return try state.next()
  }

  /// Gives back a batch that `next` returned.
  public func recycle(_ batch: Batch) { state.recycle(batch) }

  /// What workers and consumer share, behind one lock.
  private final class State: @unchecked Sendable {
    private struct Job {
      let batch: Batch
      var items: [Item]
      var started = 0
      var finished = 0
      /// What failed, of the first item that did, whichever thread came first.
      var failure: (index: Int, error: any Error)?
    }

    private let condition = NSCondition()
    private let plan: @Sendable (Int, inout [Item]) throws -> Void
    private let steps: Range<Int>
    private var free: [Batch]
    private var jobs: [Int: Job] = [:]
    /// Empty lists that steps have left, one for each batch of the ring; they take turns.
    private var lists: [[Item]]
    /// The step that the consumer gets next, and the one that is planned next.
    private var wanted: Int
    private var planned: Int
    private var failure: (any Error)?
    private var cancelled = false

    init(steps: Range<Int>, batches: [Batch], plan: @escaping @Sendable (Int, inout [Item]) throws -> Void) {
      self.steps = steps
      self.plan = plan
      free = batches
      lists = batches.map { _ in [] }
      wanted = steps.lowerBound
      planned = steps.lowerBound
    }

    func work(_ make: () throws -> Worker) {
      let prepare: Worker
      do {
        prepare = try make()
      } catch {
        return fail(error)
      }
      while let (step, batch, index, item) = take() {
        do {
          try prepare(batch, index, item)
          finish(step, index, nil)
        } catch {
          finish(step, index, error)
        }
      }
    }

    /// The next item to prepare, of the oldest step that has any; nil when there is nothing more to do.
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
        if let batch = free.popLast() {
          do {
            var items = lists.removeFirst()
            try plan(planned, &items)
            jobs[planned] = Job(batch: batch, items: items)
            planned += 1
          } catch {
            failure = error
          }
          condition.broadcast()
        } else {
          condition.wait()
        }
      }
      return nil
    }

    private func finish(_ step: Int, _ index: Int, _ error: (any Error)?) {
      condition.lock()
      defer { condition.unlock() }
      jobs[step]?.finished += 1
      Progress.made()
      if let error, index < jobs[step]?.failure?.index ?? Int.max { jobs[step]?.failure = (index, error) }
      condition.broadcast()
    }

    private func fail(_ error: any Error) {
      condition.lock()
      defer { condition.unlock() }
      failure = failure ?? error
      condition.broadcast()
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
        // What concerns no single step stops all workers: a batch that is not finished by now never will be.
        if let failure { throw failure }
        condition.wait()
      }
    }

    /// The wanted step's batch, if it is finished.
    private func takeFinished() throws -> Batch? {
      guard isFinished, var job = jobs.removeValue(forKey: wanted) else { return nil }
      if let failure = job.failure {
        jobs[wanted] = job
        throw failure.error
      }
      wanted += 1
      // Taken out of the job, the list is nobody else's and keeps its memory.
      var list: [Item] = []
      swap(&list, &job.items)
      list.removeAll(keepingCapacity: true)
      lists.append(list)
      return job.batch
    }

    private var isFinished: Bool {
      guard let job = jobs[wanted] else { return false }
      return job.finished == job.items.count
    }

    func recycle(_ batch: Batch) {
      condition.lock()
      defer { condition.unlock() }
      free.append(batch)
      condition.broadcast()
    }

    func cancel() {
      condition.lock()
      defer { condition.unlock() }
      cancelled = true
      condition.broadcast()
    }
  }
}
