import ArgumentParser
import Dist

/// `kinship corpus inspect`: what is in a corpus.
struct CorpusInspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Shows a corpus: counts, sizes, captions, labels and the first samples.")

  @Argument(help: "The corpus's folder, or its index.") var corpus: String

  @Option(help: "How many samples to show.") var samples = 3

  @Flag(help: "Prints one JSON object instead of text.") var json = false

  func validate() throws {
    guard samples >= 0 else { throw ValidationError("--samples must be 0 or more, found \(samples)") }
  }

  func run() throws {
    guard Machine.isFirstRank else { return }
    let report = try CorpusReport(try Corpus.open(corpus), examples: samples)
    print(json ? try report.json : report.text)
  }
}
