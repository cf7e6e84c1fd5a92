import Foundation

/// The gate of all tests that start processes: no more ranks run at once than this machine has cores.
///
/// Tests all begin at once. Without a gate dozens of jobs share the cores, ranks that wait for each other take time
/// from those that compute, and a job of three seconds lasts minutes.
actor Cores {
  static let shared = Cores(ProcessInfo.processInfo.activeProcessorCount)

  private let count: Int
  private var free: Int
  private var waiting: [(ranks: Int, turn: CheckedContinuation<Void, Never>)] = []

  init(_ count: Int) { (self.count, free) = (count, count) }

  /// Returns when there is a core for each of the ranks. A job of more ranks than cores waits for all of them and
  /// runs alone.
  ///
  /// Jobs get their turn in the order of asking, so that small ones cannot keep a large one waiting for ever.
  func take(for ranks: Int) async {
    let wanted = min(ranks, count)
    if waiting.isEmpty, wanted <= free {
      free -= wanted
    } else {
      await withCheckedContinuation { waiting.append((wanted, $0)) }
    }
  }

  /// Hands the cores of a job that has ended to those that wait.
  func give(back ranks: Int) {
    free += min(ranks, count)
    while let next = waiting.first, next.ranks <= free {
      free -= next.ranks
      waiting.removeFirst().turn.resume()
    }
  }
}
