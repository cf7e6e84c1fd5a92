import ArgumentParser
import Dist
import Foundation
import Settings

/// The root command: configuration, and the one place where an error becomes an exit code.
@main
struct Kinship: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kinship", abstract: "Distils large CLIP-style models into small ones, on clusters of CPU machines.",
    discussion: """
      Every command runs alone or under mpirun, with any number of ranks, and gives the same answer.

      Example:

        mpirun -n 4 kinship train run.yaml

      Exit codes:

      \(ExitStatus.allCases.map { "  \($0.rawValue)  \($0.meaning)" }.joined(separator: "\n"))
      """,
    version: Release.version,
    subcommands: [
      Train.self, Precompute.self, Plan.self, Doctor.self, Bench.self, DatasetCommand.self, VocabularyCommand.self,
      EvaluateCommand.self, Merge.self, WeightsCommand.self, EmbedCommand.self, Report.self,
    ])

  static func main() {
    StopRequest.listen()
    Machine.chooseKernel()
    Job.begin()
    // A file that may grow no further and a reader that has left are errors of the write, not the end of the process.
    for number in [SIGXFSZ, SIGPIPE] { signal(number, SIG_IGN) }
    StandardOutput.reserve()
    do {
      var command = try parseAsRoot(withHome(Array(CommandLine.arguments.dropFirst())))
      if !(command is Train || command is Precompute) { StopRequest.decline() }
      try command.run()
    } catch let error as any ExitCoded {
      fail(error)
    } catch {
      let code = exitCode(for: error)
      if code == .failure, !(error is ExitCode) { fail(error) }
      let message = fullMessage(for: error)
      if message.isEmpty || code == .success && !Machine.isFirstRank { Foundation.exit(code.rawValue) }
      do { if code == .success { try StandardOutput.print(message) } else { report(message) } } catch { fail(error) }
      Foundation.exit(code.rawValue)
    }
  }

  /// Returns the arguments with the home folder for the `~` of paths that the shell has left as it is. Captions, which
  /// follow `--text` and the file of `vocabulary inspect`, are no paths.
  private static func withHome(_ arguments: [String]) -> [String] {
    var option = ""
    let count = arguments.starts(with: ["vocabulary", "inspect"]) ? 3 : arguments.count
    let expanded = arguments.prefix(count).map { argument -> String in
      let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      if argument.hasPrefix("-") { option = String(parts[0]) }
      guard option != "--text" else { return argument }
      guard argument.hasPrefix("-"), parts.count > 1 else { return argument.withHome }
      return "\(parts[0])=\(String(parts[1]).withHome)"
    }
    return expanded + arguments.dropFirst(count)
  }

  /// Reports an error outside of MPI, where ranks cannot agree on who speaks. They read the same run file and options,
  /// and usually find the same: the others give the first rank's launcher the time to end them before they speak too.
  private static func report(_ message: String) {
    if !Machine.isFirstRank { Thread.sleep(forTimeInterval: 5) }
    Job.report(message)
  }

  private static func fail(_ error: any Error) -> Never {
    report("kinship: \(error.explanation)")
    Foundation.exit(error.exitStatus.rawValue)
  }
}

/// The release that this binary is.
enum Release { static let version = "0.1.0" }
