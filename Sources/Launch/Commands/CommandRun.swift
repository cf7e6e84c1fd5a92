import ArgumentParser
import Dist

extension ParsableCommand {
  /// Returns the discussion of a command, which ends with an example.
  static func help(_ text: String = "", example: String) -> String {
    text + (text.isEmpty ? "" : "\n\n") + "Example:\n\n  \(example)"
  }
}

extension ParsableArguments {
  /// Refuses the command line with this problem unless the condition holds.
  func require(_ condition: Bool, _ problem: @autoclosure () -> String) throws {
    if !condition { throw ValidationError(problem()) }
  }
}

extension Job {
  /// Runs a command without steps on all ranks, and throws the job's exit code if it is not 0. If `isWatched`, the
  /// watchdog ends ranks that wait for one that hangs; a process alone may wait for its input.
  static func perform(isWatched: Bool = true, _ command: (Communicator) throws -> Void) throws {
    let deadline = try Deadline.progress.seconds
    let code = run { communicator in
      Progress.enter(.working, after: 0)
      if isWatched, communicator.size > 1 { Watchdog.start(deadline: deadline, over: communicator) }
      try command(communicator)
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }
}
