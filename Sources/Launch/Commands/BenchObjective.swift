import ArgumentParser
import Model
import Settings

extension Bench {
  struct ObjectiveTerms: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "objective",
      abstract: "Times the objective and measures its memory on random embeddings of rising batches.",
      discussion: """
        The share of the roof is the rate of all matrix products that were computed, divided by that of sgemm at the \
        same shapes, measured on all ranks together afterwards; "once" does not count tiles that are computed a second \
        time for the gradient. The last line is one JSON object.

        Example:

          mpirun -n 2 kinship bench objective --pairs 1024 4096
        """)

    @Option(parsing: .upToNextOption, help: "Global batches, in pairs.")
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
      bench.options[ICLSettings.self].weight = Scheduled(icl)
      try Bench.run { [bench] in try bench.run($0, log: $1) }
    }
  }
}
