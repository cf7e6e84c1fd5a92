import ArgumentParser

extension Bench {
  struct Exact: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Compares training steps on all ranks with the same steps on one.",
      discussion: """
        Small models of both kinds train twice, on all ranks together and on each rank alone, and their losses and \
        parameters are compared. The last line is one JSON object; the exit code is 70 if they differ by more than \
        rounding.

        Example:

          mpirun -n 3 kinship bench exact --pairs 13
        """)

    @Option(help: "Training steps.")
    var steps = 20

    @Option(help: "The global batch, in pairs.")
    var pairs = 13

    @Flag(help: "Computes in double precision.")
    var double = false

    @Option(help: "Size of a gradient bucket, in MiB.")
    var bucket = 0.1

    func validate() throws {
      guard steps > 0, pairs > 2, bucket > 0 else {
        throw ValidationError("--steps is at least 1, --pairs at least 3, --bucket more than 0")
      }
    }

    func run() throws {
      let bench = ExactnessBench(steps: steps, pairs: pairs, bucket: bucket)
      try Bench.run { [double] in
        double ? try bench.run(Double.self, $0, log: $1) : try bench.run(Float.self, $0, log: $1)
      }
    }
  }
}
