import ArgumentParser
import Dist

/// `kinship precompute` reads the run file and computes its teacher's embeddings.
struct Precompute: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Computes a teacher's embeddings once, so that training can read them from a cache.",
    discussion: """
      It embeds every caption and data.views crops of every image of the run's datasets, and writes the embeddings to \
      the folder teacher.cache. It runs alone or under mpirun, best with one rank per core; the files are the same for \
      any number of ranks, to the bit. It may be stopped at any moment: when started again, it keeps every complete \
      part.

      Example:

        mpirun -n 2 kinship precompute run.yaml --set teacher.cache=caches/large
      """)

  @Argument(help: ArgumentHelp("The run file (YAML). scripts/recipes/example.yaml shows every key.", valueName: "run"))
  var file: String

  @Option(
    name: .customLong("set"),
    help: ArgumentHelp(
      "Overrides one value, such as teacher.cache=caches/large. May be repeated; the last one wins.",
      valueName: "path=value"))
  var overrides: [String] = []

  func run() throws {
    let run = try RunConfig.load(file, overrides: overrides)
    let code = Job.run { ranks in
      try Precomputation(run: run, ranks: ranks).perform()
      return 0
    }
    if code != 0 { throw ExitCode(code) }
  }
}
