import ArgumentParser
import Dist

/// `kinship doctor`: what this machine or cluster is, and what is wrong with it.
struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what this machine or cluster is, and what is wrong with it.",
    discussion: """
      Start it as a run would be started (mpirun -n 4 kinship doctor): processor, BLAS kernel and its measured speed, \
      cores and threads of every rank, libraries, shared memory; then what is wrong, with the command that mends it.
      """)

  @Flag(help: "Prints one JSON object instead of text.")
  var json = false

  func run() throws {
    let code = Job.run { ranks in
      let report = DoctorReport(try RankReport.gather(over: ranks))
      if ranks.rank == 0 { print(try json ? report.json : report.text) }
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }
}
