import ArgumentParser

extension Bench {
  struct Ranks: ParsableCommand, BenchInputDefaults {
    static let configuration = CommandConfiguration(
      abstract: "Times a training step on rising numbers of ranks, with the same work for each rank.",
      discussion: """
        Steps that communicate while the towers compute alternate with steps that do not. Exposed communication is the \
        time that a rank waits for gradients and parameters; efficiency is the step time of one rank divided by that \
        of all. The last line is one JSON object.

        Example:

          mpirun -n 4 kinship bench ranks --sizes 1 2 4
        """)

    @OptionGroup var input: BenchInputOptions<Self>

    @Option(help: "Steps in a round.")
    var steps = 3

    @Option(help: "Rounds with overlap, and without it; the median counts.")
    var rounds = 3

    @Option(parsing: .upToNextOption, help: "Numbers of ranks; those that exceed the job are left out.")
    var sizes = [1, 2, 4]

    @Option(help: "Size of a gradient bucket, in MiB.")
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
      try Bench.run { [bench] in try bench.run($0, log: $1) }
    }
  }
}
