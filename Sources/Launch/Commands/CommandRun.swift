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
  /// Runs a command on all ranks, and throws the job's exit code if it is not 0.
  static func perform(_ command: (Communicator) throws -> Void) throws {
    let code = run { communicator in
      try command(communicator)
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }
}
