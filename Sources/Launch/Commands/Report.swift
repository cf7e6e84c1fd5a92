import ArgumentParser
import Dist
import Foundation

/// `kinship report`: a run, or several side by side, as one HTML page.
struct Report: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Writes a run's curves, figures and examples to one HTML page.",
    discussion: """
      The page opens in any browser without a network: curves of the loss, its terms, rate, scale, gradient norm, \
      divergences and throughput; evaluations; memory; checkpoints; the resolved run. Of several runs it lays the curves over \
      each other and lists in which settings they differ.
      """)

  @Argument(help: ArgumentHelp("The folders of runs.", valueName: "run"))
  var runs: [String]

  @Option(help: ArgumentHelp("The page. Default: report.html in the first run's folder.", valueName: "file"))
  var output: String?

  func validate() throws {
    guard runs.count <= 12 else {
      throw ValidationError("\(runs.count) runs: expected at most 12, or nobody can tell their curves apart")
    }
  }

  func run() throws {
    guard Machine.isFirstRank else { return }
    let page = ReportPage(runs: try runs.map { try ReportedRun($0) })
    let path = output ?? URL(filePath: runs[0]).appending(path: "report.html").relativePath
    try page.write(to: path)
    print(path)
  }
}
