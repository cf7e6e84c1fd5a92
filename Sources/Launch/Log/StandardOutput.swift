import Dist
import Foundation
import Synchronization

/// Standard output, through which everything passes that a command prints. Swift's own `print` would keep lines back
/// where a launcher reads them, and would not notice that the disk is full.
enum StandardOutput {
  private static let hasFailed = Atomic(false)

  /// Opens the standard streams that were closed when the process started, so that no other file takes their place.
  /// Reading or writing them is an error.
  static func reserve() {
    for descriptor in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where fcntl(descriptor, F_GETFD) < 0 {
      _ = unsafe open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
  }

  /// Prints a command's result, and throws as `write` does. Text for people has its control characters as escapes.
  static func print(_ text: String, isJSON: Bool = false) throws {
    try write(Array("\(isJSON ? text : text.printable)\n".utf8))
  }

  /// Writes bytes that are a command's result. Throws exit code 74 if they cannot be written. If nobody reads them any
  /// more, as after `| head`, they are dropped.
  static func write(_ bytes: [UInt8]) throws {
    do throws(FileError) { try OpenFile.standardOutput.append(bytes) } catch {
      guard error.code != EPIPE else { return }
      throw UserError(
        "standard output", "cannot be written: \(error.reason); free some space, or direct it elsewhere",
        status: .inputOutput)
    }
  }

  /// Prints a line about work whose result is elsewhere, and which goes on if the line cannot be printed. The first
  /// time standard error says so.
  static func show(_ text: String) {
    do { try print(text) } catch {
      guard !hasFailed.exchange(true, ordering: .relaxed) else { return }
      Job.report("kinship: warning: \(error.explanation); the work goes on")
    }
  }
}
