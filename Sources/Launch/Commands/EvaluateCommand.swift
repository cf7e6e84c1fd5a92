import ArgumentParser

/// `kinship evaluate`: what a trained model can do.
struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract: "Measures a model: retrieval and zero-shot classification.",
    discussion: """
      Alone or under mpirun. Pictures and texts are encoded in blocks of a fixed size that are dealt to the ranks, and \
      the counts are whole numbers: they are equal on any number of ranks with the same BLAS kernel and threads.
      """,
    subcommands: [EvaluateRetrieval.self, EvaluateZeroShot.self])
}
