import Dist
import Foundation
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(1))) struct PrefetcherTests {
  /// Which item each slot was last filled with.
  final class Batch: Sendable {
    let slots: Mutex<[Int]>
    init(_ count: Int) { slots = Mutex(Array(repeating: -1, count: count)) }
    var values: [Int] { slots.withLock { $0 } }
  }

  struct Failure: Error, Equatable { let item: Int }

  static let width = 6

  /// Item numbers run through: step s has the items s · width ..< (s + 1) · width.
  func prefetcher(
    steps: Range<Int>, ring: [Batch]? = nil, workers: Int = 3,
    work: @escaping @Sendable (Int) throws -> Void = { _ in }, planned: (@Sendable (Int) throws -> Void)? = nil
  ) -> Prefetcher<Int, Batch> {
    Prefetcher(
      steps: steps, batches: ring ?? (0..<3).map { _ in Batch(Self.width) }, workers: workers,
      plan: { step in
        try planned?(step)
        return Array(step * Self.width..<(step + 1) * Self.width)
      },
      worker: {
        { batch, index, item in
          try work(item)
          batch.slots.withLock { $0[index] = item }
        }
      })
  }

  @Test(arguments: [1, 2, 5, 16])
  func batchesComeInOrderAndWhole(workers: Int) throws {
    let ring = (0..<3).map { _ in Batch(Self.width) }
    let loader = prefetcher(steps: 4..<40, ring: ring, workers: workers) { item in
      // Early items take longest, so that later steps would overtake if they could.
      if item % 7 == 0 { Thread.sleep(forTimeInterval: 0.002) }
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
      steps: 0..<2, batches: [Batch(0), Batch(0)], workers: 2, plan: { _ in [] }, worker: { { _, _, _ in } })
    #expect(try empty.next() != nil)
    #expect(try empty.next() != nil)
    #expect(try empty.next() == nil)
  }

  @Test func neverFurtherAheadThanTheRing() throws {
    let planned = Mutex(0)
    let loader = prefetcher(steps: 0..<100, planned: { step in planned.withLock { $0 = step + 1 } })
    func expectPlanned(_ count: Int, _ comment: Comment) {
      wait { planned.withLock { $0 } == count }
      Thread.sleep(forTimeInterval: 0.05)
      #expect(planned.withLock { $0 } == count, comment)
    }
    expectPlanned(3, "the ring has three")
    let first = try #require(try loader.next())
    let second = try #require(try loader.next())
    expectPlanned(3, "batches in use are not filled again")
    #expect(first.values == Array(0..<6))
    loader.recycle(first)
    loader.recycle(second)
    expectPlanned(5, "given back, they are")
  }

  /// Waits for what threads bring about, ten seconds at most.
  func wait(until done: () -> Bool) {
    let limit = ContinuousClock.now + .seconds(10)
    while !done() && ContinuousClock.now < limit { Thread.sleep(forTimeInterval: 0.005) }
  }

  @Test(arguments: [1, 4])
  func anErrorComesWhenItsStepIsDue(workers: Int) throws {
    // Items 27 and 25 of step 4 fail; the later one first.
    let loader = prefetcher(steps: 0..<10, workers: workers) { item in
      if item == 25 { Thread.sleep(forTimeInterval: 0.02) }
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
      steps: 0..<10, batches: [Batch(1), Batch(1)], workers: 2, plan: { [$0] },
      worker: { throw Failure(item: -1) })
    #expect(throws: Failure(item: -1)) { try workless.next() }
  }

  @Test func waitingIsMeasured() throws {
    let done = Mutex(0)
    let loader = prefetcher(steps: 0..<2, workers: 1) { _ in
      Thread.sleep(forTimeInterval: 0.02)
      done.withLock { $0 += 1 }
    }
    let first = try #require(try loader.next())
    #expect(loader.waited > 0.08, "six items of 20 ms: \(loader.waited)")
    wait { done.withLock { $0 } == 12 }
    let before = loader.waited
    loader.recycle(first)
    _ = try loader.next()
    #expect(loader.waited - before < 0.06, "the second was ready, and takes 120 ms where it is not")
  }

  /// Threads hold what they work with; when the prefetcher goes they let go of it, wherever they are.
  @Test(arguments: [0, 1, 5])
  func threadsEndWithThePrefetcher(taken: Int) throws {
    final class Witness: Sendable {}
    weak var gone: Witness?
    do {
      let witness = Witness()
      gone = witness
      let loader = prefetcher(steps: 0..<1_000_000) { [witness] _ in
        withExtendedLifetime(witness) { Thread.sleep(forTimeInterval: 0.001) }
      }
      for _ in 0..<taken { loader.recycle(try #require(try loader.next())) }
    }
    wait { gone == nil }
    #expect(gone == nil)
  }
}
