import Dist
import Foundation
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(10))) struct PrefetcherTests {
  /// A batch that records the item with which each slot was last filled.
  final class Batch: Sendable {
    let slots: Mutex<[Int]>
    init(_ count: Int) { slots = Mutex(Array(repeating: -1, count: count)) }
    var values: [Int] { slots.withLock { $0 } }
  }

  struct Failure: Error, Equatable { let item: Int }

  /// Numbers that threads report and that other threads wait for, with which a test forces an order.
  final class Reports: @unchecked Sendable {
    private let condition = NSCondition()
    private var numbers: Set<Int> = []

    func add(_ number: Int) {
      condition.lock()
      defer { condition.unlock() }
      numbers.insert(number)
      condition.broadcast()
    }

    /// Returns true when all numbers are reported, or false if they are not reported in time.
    @discardableResult
    func wait(for wanted: some Sequence<Int>) -> Bool {
      let limit = Date(timeIntervalSinceNow: PrefetcherTests.hang)
      condition.lock()
      defer { condition.unlock() }
      while !numbers.isSuperset(of: wanted) {
        guard condition.wait(until: limit) else { return false }
      }
      return true
    }
  }

  static let width = 6
  /// The seconds after which a wait is considered to hang.
  static let hang = 600.0

  /// Creates a prefetcher whose step s has the items s · width ..< (s + 1) · width.
  ///
  /// - Parameter work: prepares an item; its second argument is the item that the same thread prepared before.
  func prefetcher(
    steps: Range<Int>, ring: [Batch]? = nil, workers: Int = 3,
    work: @escaping @Sendable (Int, Int?) throws -> Void = { _, _ in },
    planned: (@Sendable (Int) throws -> Void)? = nil
  ) -> Prefetcher<Int, Batch> {
    Prefetcher(
      steps: steps, batches: ring ?? (0..<3).map { _ in Batch(Self.width) }, workers: workers,
      append: { step, items in
        try planned?(step)
        items += step * Self.width..<(step + 1) * Self.width
      },
      worker: {
        var last: Int?
        return { batch, index, item in
          defer { last = item }
          try work(item, last)
          batch.slots.withLock { $0[index] = item }
        }
      })
  }

  @Test(arguments: [1, 2, 5, 16])
  func batchesComeInOrderAndWhole(workers: Int) throws {
    let ring = (0..<3).map { _ in Batch(Self.width) }
    let started = Reports()
    let loader = prefetcher(steps: 4..<40, ring: ring, workers: workers) { item, _ in
      started.add(item)
      // The first item of every fourth step waits until the next step has started, which must not overtake it.
      if workers > 1, item % (4 * Self.width) == 0 { started.wait(for: item + Self.width..<item + Self.width + 2) }
    }
    for step in 4..<40 {
      let batch = try #require(try loader.next())
      #expect(ring.contains { $0 === batch }, "only the ring's batches are handed out")
      #expect(batch.values == Array(step * Self.width..<(step + 1) * Self.width))
      loader.recycle(batch)
    }
    #expect(try loader.next() == nil)
    #expect(try loader.next() == nil)
  }

  @Test func noStepsAndNoItems() throws {
    #expect(try prefetcher(steps: 3..<3).next() == nil)
    let empty = Prefetcher<Int, Batch>(
      steps: 0..<2, batches: [Batch(0), Batch(0)], workers: 2, append: { _, _ in }, worker: { { _, _, _ in } })
    #expect(try empty.next() != nil)
    #expect(try empty.next() != nil)
    #expect(try empty.next() == nil)
  }

  @Test func neverFurtherAheadThanTheRing() throws {
    // The number of batches in use at each planning of a step.
    let used = Mutex<[Int]>([])
    let recycled = Mutex(0)
    let finished = Reports()
    let loader = prefetcher(
      steps: 0..<100, work: { item, _ in finished.add(item) },
      planned: { step in used.withLock { $0.append(step - recycled.withLock { $0 }) } })
    func recycle(_ batch: Batch) {
      recycled.withLock { $0 += 1 }
      loader.recycle(batch)
    }
    func expectPlanned(_ count: Int, _ comment: Comment) {
      #expect(finished.wait(for: 0..<count * Self.width))
      #expect(used.withLock { $0.count } == count, comment)
    }
    expectPlanned(3, "the ring has three")
    let first = try #require(try loader.next())
    let second = try #require(try loader.next())
    expectPlanned(3, "batches in use are not filled again")
    recycle(first)
    recycle(second)
    expectPlanned(5, "recycled batches are filled again")
    for step in 2..<100 {
      let batch = try #require(try loader.next())
      #expect(batch.values == Array(step * Self.width..<(step + 1) * Self.width))
      recycle(batch)
    }
    // No step was planned while all batches of the ring were in use.
    #expect(used.withLock { $0.count == 100 && $0.allSatisfy { $0 < 3 } })
  }

  @Test(arguments: [1, 4])
  func anErrorComesWhenItsStepIsDue(workers: Int) throws {
    // Items 27 and 25 of step 4 fail; with several threads item 27 fails first.
    let failed = Reports()
    let loader = prefetcher(steps: 0..<10, workers: workers) { item, last in
      // A thread gets its next item only after the failure of its last one has been recorded.
      if last == 27 { failed.add(27) }
      if workers > 1, item == 25 || item > 27 { failed.wait(for: [27]) }
      if item == 25 || item == 27 { throw Failure(item: item) }
    }
    for _ in 0..<4 { loader.recycle(try #require(try loader.next())) }
    #expect(throws: Failure(item: 25)) { try loader.next() }
    #expect(throws: Failure(item: 25)) { try loader.next() }
  }

  @Test func errorsOfPlanAndOfThreads() throws {
    let planless = prefetcher(steps: 0..<10, planned: { if $0 == 2 { throw Failure(item: -2) } })
    #expect(throws: Failure(item: -2)) { while let batch = try planless.next() { planless.recycle(batch) } }
    let workless = Prefetcher<Int, Batch>(
      steps: 0..<10, batches: [Batch(1), Batch(1)], workers: 2, append: { $1.append($0) },
      worker: { throw Failure(item: -1) })
    #expect(throws: Failure(item: -1)) { try workless.next() }
  }

  /// The measured waiting time of `next` lies within the time that the caller measures.
  @Test func waitingIsMeasured() throws {
    let (gate, finished) = (Reports(), Reports())
    let loader = prefetcher(steps: 0..<2, workers: 1) { item, _ in
      gate.wait(for: [0])
      finished.add(item)
    }
    func next() throws -> (batch: Batch?, waited: Double, most: Double) {
      let before = loader.waited
      let start = ContinuousClock.now
      let batch = try loader.next()
      return (batch, loader.waited - before, (ContinuousClock.now - start) / .seconds(1) + 1e-9)
    }
    #expect(loader.waited == 0)
    // No batch is ready before this.
    gate.add(0)
    let first = try next()
    #expect(first.waited > 0 && first.waited <= first.most, "\(first)")
    // This wait does not count as waiting for a batch.
    #expect(finished.wait(for: 0..<2 * Self.width))
    loader.recycle(try #require(first.batch))
    let second = try next()
    #expect(second.batch != nil && second.waited <= second.most, "\(second)")
  }

  /// Threads own what they work with, and release it when the prefetcher is released, whether they wait for a recycled
  /// batch or prepare an item.
  @Test(arguments: [0, 1, 5], [false, true])
  func threadsEndWithThePrefetcher(taken: Int, working: Bool) throws {
    final class Witness: Sendable {
      let gone: DispatchSemaphore
      init(_ gone: DispatchSemaphore) { self.gone = gone }
      deinit { gone.signal() }
    }
    let gone = DispatchSemaphore(value: 0)
    let (started, gate) = (Reports(), Reports())
    let rest = taken * Self.width
    do {
      let witness = Witness(gone)
      let loader = prefetcher(steps: 0..<1_000_000) { [witness] item, _ in
        withExtendedLifetime(witness) {
          started.add(item)
          if working, item >= rest { gate.wait(for: [0]) }
        }
      }
      try withExtendedLifetime(loader) {
        for _ in 0..<taken { loader.recycle(try #require(try loader.next())) }
        #expect(started.wait(for: rest..<rest + (working ? 1 : 3 * Self.width)))
      }
    }
    gate.add(0)
    #expect(gone.wait(timeout: .now() + Self.hang) == .success)
  }
}
