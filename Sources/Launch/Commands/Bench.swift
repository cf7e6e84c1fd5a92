import ArgumentParser
import Dist
import Foundation
import Model
import Tensor

/// Benchmarks that scripts/bench runs.
struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure this machine with Kinship's own work; see scripts/bench.",
    subcommands: [Step.self, Ranks.self, Exact.self, Teacher.self, ObjectiveTerms.self])

  @Sendable static func precision(_ name: String) throws -> Precision {
    guard let precision = Precision(rawValue: name) else {
      throw ValidationError("--precision is fp32 or bf16, not \(name)")
    }
    return precision
  }

  struct Step: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Time a training step and its parts against the matrix products it is made of.",
      discussion: """
        The share of the roof is 3 × the forward's matrix operations (packed tokens, attention included) over the \
        time of a step, divided by the rate of matrix products of the step's own shapes, each in its own precision \
        (OpenBLAS in fp32, oneDNN in bf16), measured on all ranks at once before and after. The last line is one JSON object.
        """)

    @Option(help: "A preset of a model.")
    var model = "ViT-T-16"

    @Option(help: "Pairs a rank.")
    var batch = 32

    @Option(help: "Tokens of a caption, both ends counted.")
    var captionTokens = 16

    @Option(help: "Steps to time; the median counts.")
    var steps = 5

    @Option(help: "Pairs that go through the towers at once; all of a rank's if not given.")
    var micro: Int?

    @Option(
      help: "A preset of an objective; the teacher's embeddings are given.",
      transform: { name in
        guard let preset = ObjectivePreset(rawValue: name) else {
          let known = ObjectivePreset.allCases.map(\.rawValue).joined(separator: ", ")
          throw ValidationError("no objective is called \(name); there are \(known)")
        }
        return preset
      })
    var objective = ObjectivePreset.intra

    @Option(
      help: "How the towers' products read their operands: fp32 or bf16.",
      transform: Bench.precision)
    var precision = Precision.fp32

    func validate() throws {
      guard batch > 0, steps > 0, captionTokens >= 2, micro ?? 1 > 0 else {
        throw ValidationError("--batch, --steps and --micro are at least 1, --caption-tokens at least 2")
      }
    }

    func run() throws {
      let bench = StepBench(
        preset: model, batch: batch, captionTokens: captionTokens, steps: steps, micro: micro,
        objective: objective, precision: precision)
      try Bench.run { try bench.run($0, say: $1) }
    }
  }

  struct Teacher: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Time a teacher's forward with its weights in each placement, side by side.",
      discussion: """
        The share of the roof is the forward's matrix operations (packed tokens, attention included) over the time of \
        pictures and captions, divided by the rate of sgemm over the same shapes, measured on all ranks at once between \
        the placements. Features must be equal to the bit. The last line is one JSON object.
        """)

    @Option(help: "A preset of a model.")
    var model = "ViT-B-16"

    @Option(
      parsing: .upToNextOption, help: "Where its weights are: node, spread, replicated.",
      transform: { name in
        guard let placement = TeacherPlacement(rawValue: name) else {
          throw ValidationError("no placement is called \(name); there are \(TeacherPlacement.expectation)")
        }
        return placement
      })
    var placement = TeacherPlacement.allCases

    @Option(help: "Pairs a rank that go through the towers at once.")
    var batch = 32

    @Option(help: "Tokens of a caption, both ends counted.")
    var captionTokens = 16

    @Option(help: "Forwards to time in each placement; the median counts.")
    var passes = 5

    @Option(
      help: "How the towers' products read their operands: fp32 or bf16; spread weights are not rounded.",
      transform: Bench.precision)
    var precision = Precision.fp32

    func validate() throws {
      guard precision == .fp32 || !placement.contains(.spread) else {
        throw ValidationError("--precision bf16 takes --placement node replicated: spread weights are not rounded")
      }
      guard batch > 0, passes > 0, captionTokens >= 2, !placement.isEmpty else {
        throw ValidationError("--batch, --passes and placements are at least 1, --caption-tokens at least 2")
      }
    }

    func run() throws {
      let bench = TeacherBench(
        preset: model, placements: placement, batch: batch, captionTokens: captionTokens, passes: passes,
        precision: precision)
      try Bench.run { try bench.run($0, say: $1) }
    }
  }

  struct Ranks: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Time a training step on rising numbers of ranks with the same work a rank.",
      discussion: """
        Steps with gradients and parameters that travel while the towers compute, and without, in turn. What is exposed is \
        the time that a rank waits for them; efficiency is the step of one rank over the step. The last line is one JSON \
        object.
        """)

    @Option(help: "A preset of a model.")
    var model = "ViT-T-16"

    @Option(help: "Pairs a rank.")
    var batch = 32

    @Option(help: "Tokens of a caption, both ends counted.")
    var captionTokens = 16

    @Option(help: "Steps of a round.")
    var steps = 3

    @Option(help: "Rounds with overlap, and without; the median counts.")
    var rounds = 3

    @Option(parsing: .upToNextOption, help: "Numbers of ranks; those that the job does not have are left out.")
    var sizes = [1, 2, 4]

    @Option(help: "MiB of gradients that travel at once.")
    var bucket = ReduceConfig().bucket

    func validate() throws {
      guard batch > 0, steps > 0, rounds > 0, captionTokens >= 2, !sizes.isEmpty, sizes.allSatisfy({ $0 > 0 }) else {
        throw ValidationError("--batch, --steps, --rounds and --sizes are at least 1, --caption-tokens at least 2")
      }
      guard bucket > 0 else { throw ValidationError("--bucket is more than 0") }
    }

    func run() throws {
      var bench = RanksBench(
        preset: model, batch: batch, captionTokens: captionTokens, steps: steps, rounds: rounds, sizes: sizes.sorted())
      bench.reduce.bucket = bucket
      try Bench.run { [bench] in try bench.run($0, say: $1) }
    }
  }

  struct Exact: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Hold training steps on all ranks to the same steps on one.",
      discussion: """
        Small models of both kinds train twice, on all ranks together and on each rank alone, and losses and parameters \
        are compared. The last line is one JSON object; the exit code is 70 where more than rounding is between them.
        """)

    @Option(help: "Training steps.")
    var steps = 20

    @Option(help: "Pairs of all ranks.")
    var pairs = 13

    @Flag(help: "Computes in double precision.")
    var double = false

    @Option(help: "MiB of gradients that travel at once.")
    var bucket = 0.1

    func validate() throws {
      guard steps > 0, pairs > 2, bucket > 0 else {
        throw ValidationError("--steps is at least 1, --pairs at least 3, --bucket more than 0")
      }
    }

    func run() throws {
      let bench = ExactnessBench(steps: steps, pairs: pairs, bucket: bucket)
      try Bench.run { [double] in
        double ? try bench.run(Double.self, $0, say: $1) : try bench.run(Float.self, $0, say: $1)
      }
    }
  }

  struct ObjectiveTerms: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "objective", abstract: "Time the objective and its memory on random embeddings of rising batches.",
      discussion: """
        The share of the roof is the rate of all matrix products that were computed, divided by that of sgemm at the \
        same shapes, measured on all ranks at once afterwards; "once" does not count tiles that are computed a second \
        time for the gradient. The last line is one JSON object.
        """)

    @Option(parsing: .upToNextOption, help: "Global batches: pairs of all ranks.")
    var pairs = [1024, 2048, 4096, 8192, 16384, 32768]

    @Option(help: "Width of the student's embeddings.")
    var student = 512

    @Option(help: "Width of the teacher's embeddings.")
    var teacher = 768

    @Option(help: "Weight of ICL beside the preset intra.")
    var icl = 1.0

    func validate() throws {
      guard !pairs.isEmpty, pairs.allSatisfy({ $0 > 0 }), student > 0, teacher > 0 else {
        throw ValidationError("--pairs, --student and --teacher are at least 1")
      }
    }

    func run() throws {
      var bench = ObjectiveBench(studentWidth: student, teacherWidth: teacher, pairs: pairs)
      bench.options.icl = icl
      try Bench.run { [bench] in try bench.run($0, say: $1) }
    }
  }

  /// Runs a benchmark on all ranks; rank 0 prints what it says and, last, its report as one line of JSON.
  private static func run<Report: Encodable>(
    _ bench: @escaping (Communicator, (String) -> Void) throws -> Report
  ) throws {
    let code = Job.run { communicator in
      let report = try bench(communicator) { if communicator.rank == 0 { print($0) } }
      if communicator.rank == 0 {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        print(String(decoding: try encoder.encode(report), as: UTF8.self))
      }
      return 0
    }
    throw ExitCode(code)
  }
}
