import ArgumentParser
import Dist
import Foundation

/// What all evaluations are told: the model, the corpus, and where the figures go.
struct EvaluationOptions: ParsableArguments {
  @OptionGroup var source: ModelSource

  @Option(help: "The corpus to evaluate on: its index file or folder.")
  var corpus: String

  @Option(help: ArgumentHelp("Also writes the figures to this file, as one JSON object.", valueName: "file"))
  var json: String?

  /// Runs an evaluation on every rank; the first one shows the figures.
  func run(
    _ evaluate: (any Embedder, Corpus, Communicator) throws -> any EvaluationFigures
  ) throws {
    let code = Job.run { communicator in
      try ThreadPlan.agreed(over: communicator).apply()
      let corpus = try Corpus.open(corpus)
      let (embedder, step) = try source.load(over: communicator)
      let figures = try evaluate(embedder, corpus, communicator)
      if communicator.rank == 0 {
        for line in figures.lines { print(line) }
        if let json {
          try EvaluationReport(checkpoint: source.checkpoint, step: step, figures: figures).write(to: json)
        }
      }
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }
}

/// Figures with the model that they belong to, as one flat JSON object.
struct EvaluationReport: Encodable {
  let checkpoint: String
  /// The training step of the checkpoint, where it is known.
  let step: Int?
  let figures: any EvaluationFigures

  enum CodingKeys: CodingKey { case checkpoint, step }

  func encode(to encoder: any Encoder) throws {
    try figures.encode(to: encoder)
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(checkpoint, forKey: .checkpoint)
    try values.encodeIfPresent(step, forKey: .step)
  }

  /// Replaces the file as a whole.
  func write(to path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do {
      try (encoder.encode(self) + Data("\n".utf8)).write(to: URL(filePath: path), options: .atomic)
    } catch {
      throw EvaluationError.unwritable(
        path: path, reason: (error as NSError).localizedFailureReason ?? error.localizedDescription)
    }
  }
}
