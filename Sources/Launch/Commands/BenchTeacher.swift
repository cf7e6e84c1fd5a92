import ArgumentParser
import Settings
import Tensor

extension Bench {
  struct Teacher: ParsableCommand, BenchInputDefaults {
    static let model = "ViT-B-16"
    static let batchHelp = "Pairs of a rank that go through the towers together."

    static let configuration = CommandConfiguration(
      abstract: "Times a teacher's forward with its weights in each placement, side by side.",
      discussion: """
        The share of the roof is the forward's matrix operations (packed tokens, attention included) over the time of \
        images and captions, divided by the rate of matrix products of the same shapes in the same precision \
        (OpenBLAS in fp32, oneDNN in bf16), measured on all ranks together between the placements. Features must be \
        bit-identical. The last line is one JSON object.

        Example:

          mpirun -n 2 kinship bench teacher --placement node replicated
        """)

    @OptionGroup var input: BenchInputOptions<Self>

    @Option(
      parsing: .upToNextOption, help: "Placements of its weights: node, sharded, replicated.",
      transform: { name in
        guard let placement = TeacherPlacement(rawValue: name) else {
          throw ValidationError("no placement is called \(name); there are \(TeacherPlacement.expectation)")
        }
        return placement
      })
    var placement = TeacherPlacement.allCases

    @Option(help: "Forwards to time in each placement; the median counts.")
    var passes = 5

    @Option(
      help: "Precision of the operands of the towers' products: fp32, or bf16 (not with sharded).",
      transform: Bench.precision)
    var precision = ComputePrecision.fp32

    func validate() throws {
      guard precision == .fp32 || !placement.contains(.sharded) else {
        throw ValidationError("--precision bf16 takes --placement node replicated: sharded weights are not rounded")
      }
      guard passes > 0, !placement.isEmpty else {
        throw ValidationError("--passes and placements are at least 1")
      }
    }

    func run() throws {
      let bench = TeacherBench(
        preset: input.model, placements: placement, batch: input.batch, captionTokens: input.captionTokens,
        passes: passes, precision: precision)
      try Bench.run { try bench.run($0, log: $1) }
    }
  }
}
