import ArgumentParser
import Dist

/// `kinship precompute`: reads the run file and computes its teacher's embeddings.
struct Precompute: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Computes a teacher's embeddings once, for training to take them from a cache.",
    discussion: """
      Embeds every caption and data.views crops of every picture of the run's corpora, and writes them to the folder \
      teacher.cache. Alone or under mpirun, best with one rank a core; the files are the same bits for any number of \
      ranks. It may be stopped at any moment: started again, it keeps every part that is whole.
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
