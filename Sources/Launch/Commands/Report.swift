import ArgumentParser
import Dist
import Foundation

/// `kinship report`: a run, or several side by side, as one HTML page.
struct Report: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Writes a run's curves, figures and examples to one HTML page.",
    discussion: """
      The page opens in any browser without a network: curves of the loss, its terms, rate, scale, gradient norm, \
      divergences and throughput; evaluations; memory; checkpoints; the resolved run; and what the latest checkpoint finds: \
      captions with the pictures nearest to them, and the other way round. Of several runs it lays the curves over each \
      other and lists in which settings they differ.
      """)

  @Argument(help: ArgumentHelp("The folders of runs.", valueName: "run"))
  var runs: [String]

  @Option(help: ArgumentHelp("The page. Default: report.html in the first run's folder.", valueName: "file"))
  var output: String?

  @Option(
    help: "The corpus of the examples: its index file or folder. Default: those on which the run evaluates retrieval.")
  var corpus: String?

  @Option(
    help: ArgumentHelp(
      "How many captions and how many pictures of a corpus are looked for; 0: none. Default: 6.", valueName: "n"))
  var examples: Int?

  @Option(help: "The vocabulary file for the examples. Default: that of the run.")
  var vocabulary: String?

  func validate() throws {
    guard runs.count <= 12 else {
      throw ValidationError("\(runs.count) runs: expected at most 12, or nobody can tell their curves apart")
    }
    guard runs.count == 1 || corpus == nil && examples == nil && vocabulary == nil else {
      throw ValidationError("--corpus, --examples and --vocabulary belong to the report of one run; leave them out")
    }
    guard (0...50).contains(examples ?? 0) else {
      throw ValidationError("--examples \(examples ?? 0): expected 0 to 50")
    }
  }

  func run() throws {
    // Before the job begins: who has mistyped a name wants to read that, and not how a job ends.
    let found = Machine.isFirstRank ? try ReportedRun.read(runs) : []
    let code = Job.run { ranks in
      try ThreadPlan.agreed(over: ranks).apply()
      let own = try ranks.split(group: ranks.rank)
      if ranks.rank == 0 { try write(found, over: own) }
      // The others have nothing to do, and leave rank 0 their cores.
      try ranks.patientBarrier()
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }

  /// - Parameter ranks: this rank alone.
  private func write(_ found: [ReportedRun], over ranks: Communicator) throws {
    var page = ReportPage(runs: found)
    let count = examples ?? 6
    if found.count == 1, count > 0 {
      let search = ExampleSearch(run: found[0], corpus: corpus, vocabulary: vocabulary, count: count, ranks: ranks)
      page.examples = try search.section().markup
    }
    let path = output ?? URL(filePath: runs[0]).appending(path: "report.html").relativePath
    try page.write(to: path)
    print(path)
  }
}
