import ArgumentParser
import Dist
import Foundation

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
    Machine.chooseKernel()
    // A file that may grow no further is an error of the write, not the end of the process.
    signal(SIGXFSZ, SIG_IGN)
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch let error as any ExitCoded {
      // Every rank reads the same run file and finds the same.
      if !(error is RunFileError) || Machine.isFirstRank { complain(error) }
      Foundation.exit(error.status.rawValue)
    } catch {
      let code = exitCode(for: error)
      if code == .success || code == .validationFailure, !Machine.isFirstRank { Foundation.exit(code.rawValue) }
      let message = fullMessage(for: error)
      let stream = code == .success ? FileHandle.standardOutput : FileHandle.standardError
      // In one write: under mpirun the pieces of a message come apart.
      if !message.isEmpty { stream.write(Data("\(message)\n".utf8)) }
      Foundation.exit(code.rawValue)
    }
  }

  private static func complain(_ error: any Error) { FileHandle.standardError.write(Data("kinship: \(error)\n".utf8)) }
}

/// The release that this binary is.
enum Release { static let version = "0.1.0" }
