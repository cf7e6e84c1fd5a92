import Dist
import Model
import Tensor

/// The operations on a step's model between two steps. All ranks must call each of these methods together.
extension Step {
  /// Returns when all ranks' updates are in the model's parameters. Call it before reading them between steps.
  func waitForParameters() throws { try sync.waitForParameters() }

  /// Exchanges the average of the weights with the model's weights on all ranks; a second call undoes the first.
  func exchangeAverage() throws {
    guard let average = hooks.average else { preconditionFailure("no average is kept") }
    try waitForParameters()
    average.exchange()
    try sync.gather(all: true)
    try waitForParameters()
  }

  /// Throws `ReplicasDiffer` if the ranks' parameters and running statistics are not equal to the bit after `done`
  /// steps.
  func checkReplicas(after done: Int) throws {
    try waitForParameters()
    try communicator.requireSame(
      hash: bitHash(model.parameters.values) ^ (bitHash(model.parameters.bufferValues) &* 3), after: done)
  }

  /// Counts a step whose update is left out: model and moments are what they were.
  func skip() {
    optimizer.step += 1
    hooks.pruning?.step += 1
  }

  /// Finds out which ranks hold numbers that are not finite. All ranks come here together, since loss and norm are the
  /// same everywhere.
  func diagnose(
    _ report: ObjectiveReport, norm: Double, _ batch: StepBatch<S>, _ features: (image: Tensor<S>, text: Tensor<S>)
  ) throws -> NonFiniteError {
    let teacher = batch.teacherScale.map { _ in objective.teacherRows(batch.rows, of: batch.count) }
    let checked: [(name: String, tensor: Tensor<S>?)] = [
      ("image features", features.image), ("text features", features.text),
      ("teacher's image embeddings", teacher?.image), ("teacher's text embeddings", teacher?.text),
      ("gradient", model.parameters.gradients),
    ]
    let found = checked.filter { item in item.tensor.map { !sumOfSquares($0).isFinite } ?? false }.map(\.name)
    let origins = try communicator.allGather(found).enumerated().compactMap { rank, names in
      names.isEmpty ? nil : "rank \(rank): \(names.joined(separator: ", "))"
    }
    return NonFiniteError(step: optimizer.step + 1, report: report, norm: norm, origins: origins)
  }
}
