internal import Foundation

/// Ends a job that stands still: a thread of each rank, which works whatever the others are stuck in.
///
/// A rank that hangs holds up all others in their next collective, so before long every rank stands still. Each says
/// where it is and in which collective of which communicator, and then the job ends with exit code 77. A rank that
/// cannot speak, being stopped or cut off, is the one that is missing.
public enum Watchdog {
  /// Watches this rank until the process ends; the deadline is the same on all ranks.
  ///
  /// - Parameter deadline: seconds without any progress; some activities may take several. 0: nothing is watched.
  public static func start(deadline: Double, over ranks: Communicator) {
    start(deadline: deadline, over: ranks, report: Job.report)
  }

  /// Does the same, with messages that go to `report`, which runs on the watchdog's thread: while it runs, nothing is
  /// watched and the job goes on. Returns whether anything is watched.
  @discardableResult
  package static func start(
    deadline: Double, over ranks: Communicator, report: @escaping @Sendable (String) -> Void
  ) -> Bool {
    precondition(deadline >= 0 && deadline.isFinite, "a deadline of \(deadline) s")
    guard deadline > 0 else { return false }
    let who = "rank \(ranks.rank) of \(ranks.size) on \(ranks.hostname)"
    let thread = Thread { watch(deadline, who, report) }
    thread.name = "watchdog"
    thread.start()
    return true
  }

  private static func watch(_ deadline: Double, _ who: String, _ report: (String) -> Void) {
    let interval = min(deadline / 20, 1)
    // Ranks do not fall still at the same moment: each is to get to say where it is.
    let grace = min(max(deadline / 10, 1), 30)
    var stillness = Stillness()
    while true {
      look(&stillness, every: interval)
      let (activity, steps) = Progress.current
      guard stillness.seconds >= deadline * activity.patience else { continue }
      let reached = stillness.seconds
      let still = Int(reached.rounded())
      report("kinship: \(who): no progress for \(still) s, \(activity.words) after step \(steps); \(collectives)")
      while stillness.seconds >= reached, stillness.seconds < reached + grace { look(&stillness, every: interval) }
      guard stillness.seconds >= reached else {
        report("kinship: \(who): goes on")
        continue
      }
      report(
        "kinship: \(who): the watchdog ends the job: look at the rank that says nothing, or whose numbers are lowest, at "
          + "its host, disk and network; watchdog.deadline in the run file is \(deadline.formatted()) s")
      Job.abort(77)
    }
  }

  private static func look(_ stillness: inout Stillness, every interval: Double) {
    let before = ContinuousClock.now
    Thread.sleep(forTimeInterval: interval)
    stillness.observe(Progress.count, after: (ContinuousClock.now - before) / .seconds(1), atMost: 2 * interval)
  }

  /// What every communicator of this rank did last: `job: sum #412 (inside), copy of job: barrier #3`.
  private static var collectives: String {
    let all = CollectiveLedger.all.map { ledger in
      let last = ledger.last
      return "\(ledger.communicator): \(last)\(last.running ? " (inside)" : "")"
    }
    return "last collectives \(all.joined(separator: ", "))"
  }
}

/// How long a number has stayed the same.
struct Stillness {
  private(set) var seconds = 0.0
  private var count: Int?

  /// Takes the number as it is `elapsed` seconds after the last look. Of these `most` count: whoever was suspended in
  /// the meantime is not at fault.
  mutating func observe(_ count: Int, after elapsed: Double, atMost most: Double) {
    seconds = count == self.count ? seconds + min(elapsed, most) : 0
    self.count = count
  }
}
