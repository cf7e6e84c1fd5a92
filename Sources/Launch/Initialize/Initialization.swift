import Dist
import Model

/// Weights of another model with which a run's model is initialized.
protocol Initialization {
  /// The source of the weights as the run's checkpoints store it.
  var saved: SavedStart { get }
  /// The log's line about the weights.
  var text: String { get }

  /// Overwrites the parameters of a model that has been initialized at random. Every rank must call it.
  func apply(to model: CLIP<Float>) throws
}

extension TrainingInputs {
  /// Opens the weights with which the run file initializes a model of these sizes, and checks that they fit and are the
  /// same on every rank; nil if all weights are drawn at random. Every rank must call it.
  func initialization(for config: CLIPConfig) throws -> (any Initialization)? {
    let inherited = try InheritedWeights(run, student: config, over: ranks)
    let weights: (any Initialization)? = try inherited ?? TransferredWeights(run, student: config, over: ranks)
    try ranks.requireSame(inherited == nil ? "init.from" : "model to inherit from", weights?.saved.sha256 ?? "")
    return weights
  }
}

extension SavedRun {
  /// Throws a `UserError` (exit code 65) if the model at `path`, which this run trained, has another vocabulary than
  /// `run`.
  func requireVocabulary(of run: RunConfig, in path: String, advice: String = "") throws {
    guard try SHA256.ofFile(run.vocabulary) != vocabularySHA256 else { return }
    throw UserError(
      path,
      "was trained with another vocabulary (\(vocabulary), SHA-256 \(vocabularySHA256)), so the same ids mean other "
        + "words; set vocabulary to that one\(advice)")
  }
}
