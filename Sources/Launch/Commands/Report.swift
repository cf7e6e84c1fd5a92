import ArgumentParser
import Dist
import Foundation

struct Report: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Writes a run's curves, figures and examples to one HTML page.",
    discussion: help(
      """
      The page opens in any browser without a network. It shows curves of the loss, its terms, learning rate, scale, \
      gradient norm, divergences and throughput; evaluations; memory; checkpoints; the resolved run; the sizes, speeds \
      and accuracies of its exported forms, if scripts/bench export has measured them; and retrieval examples of the \
      latest checkpoint: captions with the nearest images, and images with the nearest captions. For several runs it \
      overlays the curves and lists the settings in which the runs differ.
      """, example: "kinship report runs/mine --examples 12"))

  @Argument(help: ArgumentHelp("The folders of runs.", valueName: "run")) var runs: [String]
  @Option(help: ArgumentHelp("The page. Default: report.html in the first run's folder.", valueName: "file"))
  var output: String?
  @Option(
    name: [.long, .customLong("corpus")],
    help: "The dataset of the examples: its index file or folder. Default: those on which the run evaluates retrieval.")
  var dataset: String?
  @Option(
    help: ArgumentHelp(
      "How many captions and how many images of a dataset are shown as queries; 0: none. Default: 6.", valueName: "n"))
  var examples: Int?
  @Option(help: "The vocabulary file for the examples. Default: that of the run.") var vocabulary: String?
  @Option(
    help: ArgumentHelp(
      "Takes the figures of the run's exported forms from this file, which scripts/bench export writes, into the run's "
        + "folder: \(ExportFigures.file), \(ExportFigures.table) and \(ExportFigures.plot).", valueName: "file"))
  var exports: String?

  func validate() throws {
    try require(runs.count <= 12, "\(runs.count) runs: expected at most 12, because more curves cannot be told apart")
    try require(
      runs.count == 1 || dataset == nil && examples == nil && vocabulary == nil && exports == nil,
      "--dataset, --examples, --vocabulary and --exports belong to the report of one run; leave them out")
    try require((0...50).contains(examples ?? 0), "--examples \(examples ?? 0): expected 0 to 50")
  }

  func run() throws {
    // This is before the job begins, so that a mistyped name gives a plain message and not the end of a job.
    if Machine.isFirstRank { try takeExports() }
    let found = Machine.isFirstRank ? try ReportedRun.read(runs) : []
    // Rank 0 works alone, and the others have no sign of how it gets on.
    try Job.perform(isWatched: false) { ranks in
      try ThreadPlan.agreed(over: ranks).apply()
      let own = try ranks.split(group: ranks.rank)
      // The other ranks have nothing to do: they wait for the end of the job and leave their cores to rank 0.
      if ranks.rank == 0 { try write(found, over: own) }
    }
  }

  /// Writes the figures of `exports` into the run's folder, where they replace earlier ones. A folder that is none of a
  /// run is left as it is: reading it will be refused.
  private func takeExports() throws {
    guard let exports else { return }
    let figures = try ExportFigures(exports)
    let folder = URL(filePath: runs[0], directoryHint: .isDirectory)
    let log = folder.appending(path: RunLog.fileName).relativePath
    if FileManager.default.fileExists(atPath: log) { try figures.write(to: folder) }
  }

  /// - Parameter ranks: this rank alone.
  private func write(_ found: [ReportedRun], over ranks: Communicator) throws {
    var page = ReportPage(runs: found)
    let count = examples ?? 6
    if found.count == 1, count > 0 {
      let search = ExampleSearch(run: found[0], dataset: dataset, vocabulary: vocabulary, count: count, ranks: ranks)
      page.examples = try search.section().markup
    }
    let path = output ?? URL(filePath: runs[0]).appending(path: "report.html").relativePath
    try page.write(to: path)
    try StandardOutput.print(path)
  }
}
