import ArgumentParser
import Dist
import Foundation
import Tensor

/// Benchmarks that scripts/bench runs.
struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures this machine with Kinship's own work; see scripts/bench.",
    discussion: help(example: "mpirun -n 2 kinship bench step --model ViT-T-16 --batch 32"),
    subcommands: [
      Step.self, Ranks.self, Exact.self, Teacher.self, Inference.self, ObjectiveTerms.self, Retrieval.self, Data.self,
    ])

  /// Returns the transform of an option whose values are words. `problem` is what the user reads of any other word.
  static func word<Choice: RawRepresentable & Sendable>(
    _ problem: @escaping @Sendable (String) -> String
  ) -> @Sendable (String) throws -> Choice where Choice.RawValue == String {
    return { name in
      guard let choice = Choice(rawValue: name) else { throw ValidationError(problem(name)) }
      return choice
    }
  }

  /// The bounds of pairs, and of steps and other repetitions.
  static let pairs = 1...1 << 24
  static let repetitions = 1...1_000_000

  static let precision: @Sendable (String) throws -> ComputePrecision =
    word { "--precision is fp32 or bf16, not \($0)" }

  /// Runs a benchmark on all ranks, each with the threads of its cores. Rank 0 prints the benchmark's messages and,
  /// last, its report as one line of JSON.
  static func run<Report: Encodable>(
    keys: JSONEncoder.KeyEncodingStrategy = .convertToSnakeCase,
    _ bench: @escaping (Communicator, (String) -> Void) throws -> Report
  ) throws {
    try Job.perform { communicator in
      let plan = try ThreadPlan.agreed(over: communicator)
      try plan.apply()
      if communicator.rank == 0 { for warning in plan.warnings { StandardOutput.show("warning: \(warning)") } }
      let report = try bench(communicator) { if communicator.rank == 0 { StandardOutput.show($0) } }
      if communicator.rank == 0 {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        encoder.keyEncodingStrategy = keys
        try StandardOutput.print(String(decoding: encoder.encode(report), as: UTF8.self), isJSON: true)
      }
    }
  }
}

extension ClosedRange<Int> {
  /// The range as it is written in messages: `1 to 10`.
  var text: String { "\(lowerBound) to \(upperBound)" }
}

/// The defaults of a benchmark that runs a model's towers on made-up images and captions.
protocol BenchInputDefaults {
  static var model: String { get }
  static var batch: Int { get }
  static var batchHelp: String { get }
}

extension BenchInputDefaults {
  static var model: String { "ViT-T-16" }
  static var batch: Int { 32 }
  static var batchHelp: String { "Pairs of each rank." }
}

struct BenchInputOptions<Benchmark: BenchInputDefaults>: ParsableArguments {
  @Option(help: "The preset of a model.") var model = Benchmark.model
  @Option(help: ArgumentHelp(Benchmark.batchHelp)) var batch = Benchmark.batch
  @Option(help: "Tokens of a caption, including start and end.") var captionTokens = 16

  var work: BenchWork { BenchWork(preset: model, batch: batch, captionTokens: captionTokens) }

  func validate() throws {
    try require(
      Bench.pairs ~= batch && captionTokens >= 2,
      "--batch is at least 1, --caption-tokens at least 2, and --batch at most \(Bench.pairs.upperBound)")
  }
}
