import ArgumentParser
import Dist

struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Describes this machine or cluster, and says what is wrong with it.",
    discussion: help(
      """
      Start it as you would start a run. It shows the processor, the BLAS kernel and its measured speed, what \
      precision: auto selects and why, the cores and threads of every rank, libraries and where they were loaded from, \
      shared memory, latency and bandwidth between ranks, what carries their messages, and clocks; then what is wrong, \
      with the command that fixes it.
      """, example: "mpirun -n 4 kinship doctor --folder runs"))

  @Flag(help: "Prints one JSON object instead of text.") var json = false
  @Option(
    help: ArgumentHelp(
      "Also tests this folder: whether all ranks see the same files in it, and whether locks work. Small files are "
        + "created and removed.", valueName: "path"))
  var folder: String?

  func run() throws {
    try Job.perform { ranks in
      let reports = try ranks.allGather(RankReport.measure(over: ranks))
      let network = try NetworkReport(reports.map(\.node), over: ranks)
      let transports = try TransportReport(reports.map(\.node), over: ranks)
      let tried = try folder.map { try FolderReport($0, over: ranks) }
      let report = DoctorReport(reports, network: network, transports: transports, folder: tried)
      guard ranks.rank == 0 else { return }
      try StandardOutput.print(json ? report.jsonText() : report.text, isJSON: json)
    }
  }
}
