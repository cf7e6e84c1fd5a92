import ArgumentParser

extension Bench {
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
}
