import Foundation
import Model
import Tensor

/// Ranks that are threads of this process: what one calls, all call, and each waits for the others.
final class Meeting: @unchecked Sendable {
  private let count: Int
  private let condition = NSCondition()
  private var brought: [Int: [Double]] = [:]
  private var taken: [[Double]] = []
  private var round = 0

  init(ranks: Int) { count = ranks }

  /// What each rank brought, in rank order, once the last is there.
  func exchange(_ rank: Int, _ numbers: [Double]) -> [[Double]] {
    condition.lock()
    defer { condition.unlock() }
    brought[rank] = numbers
    if brought.count == count {
      taken = brought.sorted { $0.key < $1.key }.map(\.value)
      brought = [:]
      round += 1
      condition.broadcast()
      return taken
    }
    let own = round
    while round == own { condition.wait() }
    return taken
  }

  /// Runs `body` once a rank, each on a thread of its own, and returns what they gave, in rank order.
  static func run<T>(ranks: Int, _ body: @escaping (Int, Meeting) -> T) -> [T] {
    let meeting = Meeting(ranks: ranks)
    let work = Work { body($0, meeting) }
    let group = DispatchGroup()
    for rank in 0..<ranks {
      group.enter()
      Thread {
        work.run(rank)
        group.leave()
      }.start()
    }
    group.wait()
    return work.results.sorted { $0.key < $1.key }.map(\.value)
  }

  private final class Work<T>: @unchecked Sendable {
    private let body: (Int) -> T
    private let lock = NSLock()
    private(set) var results: [Int: T] = [:]

    init(_ body: @escaping (Int) -> T) { self.body = body }

    func run(_ rank: Int) {
      let result = body(rank)
      lock.withLock { results[rank] = result }
    }
  }
}

/// One of the threads of a meeting, as a loss sees the others.
struct ThreadRanks<S: Scalar>: Ranks {
  let rank: Int
  let meeting: Meeting

  func allGather(_ local: Tensor<S>, into all: Tensor<S>) {
    let numbers = meeting.exchange(rank, local.array.map { Double($0) }).flatMap { $0 }
    precondition(numbers.count == all.count, "\(numbers.count) numbers for \(all.shape)")
    for (index, number) in numbers.enumerated() { all[index] = S(number) }
  }

  func allReduce(_ numbers: inout [Double]) { reduce(&numbers, +) }
  func allReduceMaximum(_ numbers: inout [Double]) { reduce(&numbers, max) }

  private func reduce(_ numbers: inout [Double], _ operation: (Double, Double) -> Double) {
    let all = meeting.exchange(rank, numbers)
    for index in numbers.indices { numbers[index] = all.dropFirst().reduce(all[0][index]) { operation($0, $1[index]) } }
  }
}
