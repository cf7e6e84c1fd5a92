import ArgumentParser

/// What differs between benchmarks that run a model's towers on made-up pictures and captions.
protocol BenchInputDefaults {
  /// The preset where none is named.
  static var model: String { get }
  static var batch: Int { get }
  static var batchHelp: String { get }
}

extension BenchInputDefaults {
  static var model: String { "ViT-T-16" }
  static var batch: Int { 32 }
  static var batchHelp: String { "Pairs a rank." }
}

/// Model, pairs and captions of such a benchmark.
struct BenchInputOptions<Benchmark: BenchInputDefaults>: ParsableArguments {
  @Option(help: "A preset of a model.")
  var model = Benchmark.model

  @Option(help: ArgumentHelp(Benchmark.batchHelp))
  var batch = Benchmark.batch

  @Option(help: "Tokens of a caption, both ends counted.")
  var captionTokens = 16

  func validate() throws {
    guard batch > 0, captionTokens >= 2 else {
      throw ValidationError("--batch is at least 1, --caption-tokens at least 2")
    }
  }
}
