internal import Foundation
internal import Tensor

/// Ends a job that makes no progress, from a thread of each rank. A rank that hangs blocks all others in their next
/// collective. Each reports its activity and the last collectives, and then the job ends with exit code 77. A rank that
/// reports nothing is suspended or cut off, and is the cause.
public enum Watchdog {
  /// Watches this rank until the process ends, unless the deadline in seconds, the same on all ranks, is 0, or the
  /// system refuses the thread, which is reported; then it returns false. Messages go to `report`, by default to
  /// standard error; until it returns, nothing is watched.
  @discardableResult
  public static func start(
    deadline: Double, over ranks: Communicator, report: (@Sendable (String) -> Void)? = nil
  ) -> Bool {
    precondition(deadline >= 0 && deadline.isFinite, "a deadline of \(deadline) s")
    guard deadline > 0 else { return false }
    let who = "rank \(ranks.rank) of \(ranks.size) on \(ranks.hostname)"
    // The first look takes memory for good; it does so here, before the steps whose memory is counted.
    _ = Progress.count
    let report = report ?? { Job.report($0) }
    do { try SystemThread.start("watchdog") { watch(deadline, who, report) } } catch {
      report("kinship: warning: \(who): nothing ends this rank if it hangs: \(error)")
      return false
    }
    return true
  }

  private static func watch(_ deadline: Double, _ who: String, _ report: (String) -> Void) {
    let interval = min(deadline / 20, 1)
    // Ranks do not stop at the same moment, and each needs time to report.
    let grace = min(max(deadline / 10, 1), 30)
    var stillness = Stillness()
    while true {
      look(&stillness, every: interval)
      let (activity, steps) = Progress.current
      guard stillness.seconds >= deadline * activity.patience else { continue }
      let reached = stillness.seconds
      let still = Int(reached.rounded())
      let place = activity == .working ? "" : " after step \(steps)"
      report("kinship: \(who): no progress for \(still) s, \(activity.words)\(place); \(collectives)")
      while stillness.seconds >= reached, stillness.seconds < reached + grace { look(&stillness, every: interval) }
      guard stillness.seconds >= reached else {
        report("kinship: \(who): is making progress again")
        continue
      }
      report(
        "kinship: \(who): the watchdog ends the job: check the rank that reported nothing or has the lowest collective "
          + "numbers, and its host, disk and network; the deadline is \(deadline.formatted()) s (watchdog.deadline in "
          + "the run file; \(Deadline.progress.rawValue) for commands without one)")
      Job.abort(ExitStatus.stalled.rawValue)
    }
  }

  private static func look(_ stillness: inout Stillness, every interval: Double) {
    let before = ContinuousClock.now
    Thread.sleep(forTimeInterval: interval)
    stillness.observe(Progress.count, after: (ContinuousClock.now - before) / .seconds(1), atMost: 2 * interval)
  }

  /// The last collective of every communicator of this rank: `job: allReduce #412 (inside), copy of job: barrier #3`.
  private static var collectives: String {
    let all = CollectiveLedger.all.map { ($0.communicator, $0.last) }
    return "last collectives \(all.map { "\($0): \($1)\($1.running ? " (inside)" : "")" }.joined(separator: ", "))"
  }
}

struct Stillness {
  private(set) var seconds = 0.0
  private var count: Int?

  /// Records the number `elapsed` seconds after the last. At most `most` count: a suspended process is not blamed.
  mutating func observe(_ count: Int, after elapsed: Double, atMost most: Double) {
    seconds = count == self.count ? seconds + min(elapsed, most) : 0
    self.count = count
  }
}
