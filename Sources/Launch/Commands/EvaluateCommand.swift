import ArgumentParser

/// `kinship evaluate` measures a trained model.
struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract: "Measures a model: retrieval and zero-shot classification.",
    discussion: """
      It runs alone or under mpirun. Images and texts are encoded in blocks of a fixed size that are distributed over \
      the ranks, and the results are whole counts: they are equal on any number of ranks with the same BLAS kernel and \
      threads.

      Example:

        kinship evaluate retrieval --checkpoint runs/mine --dataset data/val
      """,
    subcommands: [EvaluateRetrieval.self, EvaluateZeroShot.self])
}
