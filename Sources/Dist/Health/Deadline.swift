internal import Foundation
internal import Tensor

/// The limits on the time for which the ranks of any command wait for each other. Environment variables set them in
/// seconds, for launchers pass these on to every rank; 0: no limit.
public enum Deadline: String, Sendable {
  /// The time from the first line of `main` until all ranks have met.
  case start = "KINSHIP_START_DEADLINE"
  /// The time without progress of a rank, for commands that have no run file.
  case progress = "KINSHIP_WATCHDOG_DEADLINE"

  /// The seconds that the environment sets, or by default.
  public var seconds: Double {
    get throws {
      let text = ProcessInfo.processInfo.environment[rawValue] ?? ""
      guard !text.isEmpty else { return self == .start ? 120 : 600 }
      guard let seconds = Double(text), 0...1e9 ~= seconds else { throw DeadlineError(variable: rawValue, text: text) }
      return seconds
    }
  }
}

/// An environment variable that does not hold a time.
public struct DeadlineError: ExitCoded, Hashable, CustomStringConvertible {
  let variable: String
  let text: String
  public var status: ExitStatus { .usage }
  public var description: String { "\(variable) is “\(text)”; expected 0 (no limit) to 1e9 seconds" }
}

/// Watches the start of a job, in which ranks cannot be asked where they are. One that is stopped before it has started
/// MPI holds up all others in `MPI_Init`: after the deadline each of these says so and ends, and the launcher ends the
/// rest.
struct StartWatch {
  private let isOver = DispatchSemaphore(value: 0)

  /// Watches from now on until `end`, for the rest of a deadline in seconds that began at `start`.
  init(deadline: Double, since start: ContinuousClock.Instant) {
    // A process without a launcher waits for nobody.
    guard deadline > 0, let rank = Job.launchedRank else { return }
    let who = "rank \(rank) on \(ProcessInfo.processInfo.hostName)"
    let rest = deadline - (ContinuousClock.now - start) / .seconds(1)
    let interval = min(deadline / 20, 1)
    // The quotient need not be a number of looks if the deadline is very short.
    let looks = Int(min(max(rest / interval, 1), 1e9))
    let watch: @Sendable () -> Void = { [isOver] in
      // Looks are counted, not time: a process that was suspended itself blames nobody.
      for _ in 0..<looks where isOver.wait(timeout: .now() + interval) == .success { return }
      Job.report(
        "kinship: \(who): the ranks have not met within \(deadline.formatted()) s: check the rank that reports "
          + "nothing, and its host; if the job needs more time, set \(Deadline.start.rawValue) to more seconds")
      Job.abort(ExitStatus.stalled.rawValue)
    }
    do { try SystemThread.start("start watch", watch) } catch {
      Job.report("kinship: warning: \(who): nothing ends this rank if the ranks do not meet: \(error)")
    }
  }

  func end() { isOver.signal() }
}
