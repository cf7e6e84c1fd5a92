import ArgumentParser
import Dist

/// `kinship dataset verify` checks that every shard is complete and unaltered.
struct DatasetVerify: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Reads every byte of a dataset and checks each shard; the exit code is 65 if one is damaged.",
    discussion: """
      Example:

        kinship dataset verify data/mine
      """)

  @Argument(help: "The dataset's folder, or its index.") var dataset: String

  func run() throws {
    guard Machine.isFirstRank else { return }
    let verdicts = try Dataset.verify(dataset) { verdict in
      let state = verdict.problem.map { "BAD, \($0)" } ?? "ok"
      print("\(verdict.file): \(verdict.samples) samples, \(Figures.bytes(verdict.bytes)): \(state)")
    }
    let bad = verdicts.filter { $0.problem != nil }.map(\.file)
    guard bad.isEmpty else {
      throw DatasetError(
        dataset, "\(bad.count) of \(verdicts.count) shards are bad: \(bad.joined(separator: ", ")); import it again")
    }
  }
}
