import ArgumentParser
import Dist

/// `kinship dataset inspect` shows what a dataset contains.
struct DatasetInspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Shows a dataset: counts, sizes, captions, labels and the first samples.",
    discussion: """
      Example:

        kinship dataset inspect data/mine --samples 5
      """)

  @Argument(help: "The dataset's folder, or its index.") var dataset: String

  @Option(help: "How many samples to show.") var samples = 3

  @Flag(help: "Prints one JSON object instead of text.") var json = false

  func validate() throws {
    guard samples >= 0 else { throw ValidationError("--samples must be 0 or more, found \(samples)") }
  }

  func run() throws {
    guard Machine.isFirstRank else { return }
    let report = try DatasetReport(try Dataset.open(dataset), examples: samples)
    print(json ? try report.json : report.text)
  }
}
