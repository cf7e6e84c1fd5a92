import ArgumentParser

extension Bench {
  struct Ranks: ParsableCommand, BenchInputDefaults {
    static let configuration = CommandConfiguration(
      abstract: "Time a training step on rising numbers of ranks with the same work a rank.",
      discussion: """
        Steps with gradients and parameters that travel while the towers compute, and without, in turn. What is exposed is \
        the time that a rank waits for them; efficiency is the step of one rank over the step. The last line is one JSON \
        object.
        """)

    @OptionGroup var input: BenchInputOptions<Self>

    @Option(help: "Steps of a round.")
    var steps = 3

    @Option(help: "Rounds with overlap, and without; the median counts.")
    var rounds = 3

    @Option(parsing: .upToNextOption, help: "Numbers of ranks; those that the job does not have are left out.")
    var sizes = [1, 2, 4]

    @Option(help: "MiB of gradients that travel at once.")
    var bucket = ReduceConfig().bucket

    func validate() throws {
      guard steps > 0, rounds > 0, !sizes.isEmpty, sizes.allSatisfy({ $0 > 0 }) else {
        throw ValidationError("--steps, --rounds and --sizes are at least 1")
      }
      guard bucket > 0 else { throw ValidationError("--bucket is more than 0") }
    }

    func run() throws {
      var bench = RanksBench(
        preset: input.model, batch: input.batch, captionTokens: input.captionTokens, steps: steps, rounds: rounds,
        sizes: sizes.sorted())
      bench.reduce.bucket = bucket
      try Bench.run { [bench] in try bench.run($0, say: $1) }
    }
  }
}
