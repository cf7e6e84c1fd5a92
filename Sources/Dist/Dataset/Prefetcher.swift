internal import Foundation

/// Prepares batches ahead of their use in threads, and returns them in the order of the steps.
///
/// It uses a fixed ring of batches, which the consumer recycles, so that the memory of images and lists of items is
/// allocated only once. All workers prepare the samples of a batch together.
public final class Prefetcher<Item: Sendable, Batch: AnyObject & Sendable> {
  /// Prepares item number `index` of a batch.
  public typealias Worker = (_ batch: Batch, _ index: Int, _ item: Item) throws -> Void

  private let state: State
  /// The total number of seconds that `next` has waited.
  public private(set) var waited = 0.0

  /// - Parameters:
  ///   - steps: the steps to prepare, in order.
  ///   - batches: the ring of at least two batches: one is in use while the others are prepared.
  ///   - workers: the number of threads.
  ///   - plan: returns the items of a step; called once for each step, in order, by one thread at a time.
  ///   - worker: returns the function with which a thread prepares items; called once on each thread.
  public convenience init(
    steps: Range<Int>, batches: [Batch], workers: Int, plan: @escaping @Sendable (Int) throws -> [Item],
    worker: @escaping @Sendable () throws -> Worker
  ) {
    self.init(
      steps: steps, batches: batches, workers: workers, append: { $1 += try plan($0) }, worker: worker)
  }

  /// Does the same with a plan that appends the items of a step to an empty list, whose memory earlier steps have
  /// allocated.
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
    /// The step that the consumer gets next.
    private var wanted: Int
    /// The step that is planned next.
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
          finish(step, item: index, nil)
        } catch {
          finish(step, item: index, error)
        }
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

    private func finish(_ step: Int, item index: Int, _ error: (any Error)?) {
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
        // An error outside of any step stops all workers, so an unfinished batch will never be finished.
        if let failure { throw failure }
        condition.wait()
      }
    }

    /// Returns the wanted step's batch if it is finished.
    private func takeFinished() throws -> Batch? {
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
