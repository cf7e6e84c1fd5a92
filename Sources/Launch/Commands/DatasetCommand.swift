import ArgumentParser
import Dist

struct DatasetCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dataset", abstract: "Makes, shows and checks datasets: images and captions in HDF5 shards.",
    discussion: help(example: "kinship dataset import images.tsv --output data/mine"),
    subcommands: [DatasetImport.self, DatasetInspect.self, DatasetVerify.self, DatasetScore.self], aliases: ["corpus"])
}

struct DatasetInspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Shows a dataset: counts, sizes, captions, labels and the first samples.",
    discussion: help(example: "kinship dataset inspect data/mine --samples 5"))

  @Argument(help: "The dataset's folder, or its index.") var dataset: String
  @Option(help: "How many samples to show.") var samples = 3
  @Flag(help: "Prints one JSON object instead of text.") var json = false

  func validate() throws { try require(samples >= 0, "--samples must be 0 or more, found \(samples)") }

  func run() throws {
    guard Machine.isFirstRank else { return }
    let report = try DatasetReport(try Dataset.open(dataset), examples: samples)
    try StandardOutput.print(json ? report.json : report.text, isJSON: json)
  }
}

struct DatasetVerify: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Reads every byte of a dataset and checks each shard; the exit code is 65 if one is damaged.",
    discussion: help(example: "kinship dataset verify data/mine"))

  @Argument(help: "The dataset's folder, or its index.") var dataset: String

  func run() throws {
    guard Machine.isFirstRank else { return }
    let verdicts = try Dataset.verify(dataset) { verdict in
      let state = verdict.problem.map { "BAD, \($0)" } ?? "ok"
      let size = "\(Figures.count(verdict.samples, "sample")), \(Figures.bytes(verdict.bytes))"
      try StandardOutput.print("\(verdict.file): \(size): \(state)")
    }
    let bad = verdicts.filter { $0.problem != nil }.map(\.file)
    guard bad.isEmpty else {
      let found = "\(bad.count) of \(Figures.count(verdicts.count, "shard")) \(bad.count == 1 ? "is" : "are") bad"
      throw DatasetError(dataset, "\(found): \(bad.joined(separator: ", ")); import it again")
    }
  }
}
