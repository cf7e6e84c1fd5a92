import Foundation

/// Limits the ranks that tests start to the number of cores of this machine.
///
/// All tests begin at the same time. Without a limit dozens of jobs share the cores, ranks that wait for each other
/// take time from those that compute, and a job of three seconds lasts minutes.
actor Cores {
  static let shared = Cores(ProcessInfo.processInfo.activeProcessorCount)

  private let count: Int
  private var free: Int
  private var waiting: [(ranks: Int, turn: CheckedContinuation<Void, Never>)] = []

  init(_ count: Int) { (self.count, free) = (count, count) }

  /// Returns when there is a core for each of the ranks. A job of more ranks than cores waits for all cores and runs
  /// alone.
  ///
  /// Free cores go to the first waiting job that fits. No core is kept idle for a large job, which may therefore wait
  /// until no small job is left; the time that a job waits is not limited.
  func take(for ranks: Int) async {
    let wanted = min(ranks, count)
    if wanted <= free {
      free -= wanted
    } else {
      await withCheckedContinuation { waiting.append((wanted, $0)) }
    }
  }

  /// Releases the cores of a job that has ended to the jobs that wait.
  func give(back ranks: Int) {
    free += min(ranks, count)
    while let next = waiting.firstIndex(where: { $0.ranks <= free }) {
      free -= waiting[next].ranks
      waiting.remove(at: next).turn.resume()
    }
  }
}
