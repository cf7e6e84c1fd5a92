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
  /// Of those that wait the first one that fits gets the free cores: no core is idle for the sake of a large job, which
  /// can wait until there are no small ones any more, for nobody limits the time that it waits.
  func take(for ranks: Int) async {
    let wanted = min(ranks, count)
    if wanted <= free {
      free -= wanted
    } else {
      await withCheckedContinuation { waiting.append((wanted, $0)) }
    }
  }

  /// Hands the cores of a job that has ended to those that wait.
  func give(back ranks: Int) {
    free += min(ranks, count)
    while let next = waiting.firstIndex(where: { $0.ranks <= free }) {
      free -= waiting[next].ranks
      waiting.remove(at: next).turn.resume()
    }
  }
}
