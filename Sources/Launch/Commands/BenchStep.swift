import ArgumentParser
import Model
import Settings
import Tensor

extension Bench {
  struct Step: ParsableCommand, BenchInputDefaults {
    static let configuration = CommandConfiguration(
      abstract: "Time a training step and its parts against the matrix products it is made of.",
      discussion: """
        The share of the roof is 3 × the forward's matrix operations (packed tokens, attention included) over the \
        time of a step, divided by the rate of matrix products of the step's own shapes, each in its own precision \
        (OpenBLAS in fp32, oneDNN in bf16), measured on all ranks at once before and after. What is computed again with \
        --recompute or --micro does not count. The last line is one JSON object.
        """)

    @OptionGroup var input: BenchInputOptions<Self>

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

    @Option(help: "How the towers' products read their operands: fp32 or bf16.", transform: Bench.precision)
    var precision = Precision.fp32

    @Option(
      parsing: .upToNextOption,
      help:
        "What backward computes again and does not keep: none, cheap, blocks; several are measured one after another.",
      transform: { name in
        guard let choice = Recompute(rawValue: name) else {
          throw ValidationError("--recompute is \(Recompute.expectation), not \(name)")
        }
        return choice
      })
    var recompute = [Recompute.none]

    func validate() throws {
      guard steps > 0, micro ?? 1 > 0, !recompute.isEmpty else {
        throw ValidationError("--steps and --micro are at least 1, and --recompute names a choice")
      }
    }

    func run() throws {
      let bench = StepBench(
        preset: input.model, batch: input.batch, captionTokens: input.captionTokens, steps: steps, micro: micro,
        objective: objective, precision: precision, recompute: recompute)
      try Bench.run { try bench.run($0, say: $1) }
    }
  }
}
