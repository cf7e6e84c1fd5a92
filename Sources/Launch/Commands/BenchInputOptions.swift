import ArgumentParser

/// The defaults of a benchmark that runs a model's towers on made-up images and captions.
protocol BenchInputDefaults {
  /// The model's preset if none is named.
  static var model: String { get }
  static var batch: Int { get }
  static var batchHelp: String { get }
}

extension BenchInputDefaults {
  static var model: String { "ViT-T-16" }
  static var batch: Int { 32 }
  static var batchHelp: String { "Pairs of each rank." }
}

/// The options of such a benchmark: model, pairs and captions.
struct BenchInputOptions<Benchmark: BenchInputDefaults>: ParsableArguments {
  @Option(help: "The preset of a model.")
  var model = Benchmark.model

  @Option(help: ArgumentHelp(Benchmark.batchHelp))
  var batch = Benchmark.batch

  @Option(help: "Tokens of a caption, including start and end.")
  var captionTokens = 16

  func validate() throws {
    guard batch > 0, captionTokens >= 2 else {
      throw ValidationError("--batch is at least 1, --caption-tokens at least 2")
    }
  }
}
