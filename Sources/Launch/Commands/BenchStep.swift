import ArgumentParser
import Model
import Settings
import Tensor

extension Bench {
  struct Step: ParsableCommand, BenchInputDefaults {
    static let configuration = CommandConfiguration(
      abstract: "Times a training step and its parts against the matrix products it is made of.",
      discussion: """
        The share of the roof is 3 × the forward's matrix operations (packed tokens, attention included) over the \
        time of a step, divided by the rate of matrix products of the step's own shapes, each in its own precision \
        (OpenBLAS in fp32, oneDNN in bf16), measured on all ranks together before and after. Operations repeated by \
        --recompute or --micro-batch-size do not count. The last line is one JSON object.

        Example:

          mpirun -n 2 kinship bench step --recompute none cheap blocks
        """)

    @OptionGroup var input: BenchInputOptions<Self>

    @Option(help: "Steps to time; the median counts.")
    var steps = 5

    @Option(help: "Pairs that go through the towers together. Default: all pairs of a rank.")
    var microBatchSize: Int?

    @Option(
      help: "A preset of an objective; the teacher's embeddings are made up.",
      transform: { name in
        guard let preset = ObjectivePreset(rawValue: name) else {
          let known = ObjectivePreset.allCases.map(\.rawValue).joined(separator: ", ")
          throw ValidationError("no objective is called \(name); there are \(known)")
        }
        return preset
      })
    var objective = ObjectivePreset.intra

    @Option(help: "Precision of the operands of the towers' products: fp32 or bf16.", transform: Bench.precision)
    var precision = ComputePrecision.fp32

    @Option(
      parsing: .upToNextOption,
      help:
        "Activations that backward recomputes: none, cheap, blocks; several are measured one after another.",
      transform: { name in
        guard let choice = Recompute(rawValue: name) else {
          throw ValidationError("--recompute is \(Recompute.expectation), not \(name)")
        }
        return choice
      })
    var recompute = [Recompute.none]

    func validate() throws {
      guard steps > 0, microBatchSize ?? 1 > 0, !recompute.isEmpty else {
        throw ValidationError("--steps and --micro-batch-size are at least 1, and --recompute names a choice")
      }
    }

    func run() throws {
      let bench = StepBench(
        preset: input.model, batch: input.batch, captionTokens: input.captionTokens, steps: steps,
        microBatchSize: microBatchSize,
        objective: objective, precision: precision, recompute: recompute)
      try Bench.run { try bench.run($0, log: $1) }
    }
  }
}
