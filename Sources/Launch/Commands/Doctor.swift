import ArgumentParser
import Dist

/// `kinship doctor`: what this machine or cluster is, and what is wrong with it.
struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what this machine or cluster is, and what is wrong with it.",
    discussion: """
      Start it as a run would be started (mpirun -n 4 kinship doctor): processor, BLAS kernel and its measured speed, \
      what precision: auto takes and why, cores and threads of every rank, libraries, shared memory; latency and \
      bandwidth between ranks, clocks; then what is wrong, with the command that mends it.
      """)

  @Flag(help: "Prints one JSON object instead of text.")
  var json = false

  @Option(
    help: ArgumentHelp(
      "Also tries this folder: whether all ranks see the same files in it, and whether locks work. Small files are made "
        + "and removed.", valueName: "path"))
  var folder: String?

  func run() throws {
    let code = Job.run { ranks in
      let reports = try RankReport.gather(over: ranks)
      let network = try NetworkReport(reports.map(\.node), over: ranks)
      let tried = try folder.map { try FolderReport($0, over: ranks) }
      let report = DoctorReport(reports, network: network, folder: tried)
      if ranks.rank == 0 { print(try json ? report.json : report.text) }
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }
}
