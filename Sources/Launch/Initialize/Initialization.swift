import Dist
import Model

/// Weights of another model that a run's model takes over before its first step.
protocol Initialization {
  /// Where they are, and what is in them, for the run's checkpoints.
  var saved: SavedStart { get }
  /// What is taken over, for the log.
  var text: String { get }

  /// Fills the parameters of a model that has been initialized. Every rank must call it.
  func apply(to model: CLIP<Float>) throws
}

/// With whose weights a run began, in its checkpoints.
struct SavedStart: Codable, Equatable {
  /// The key under `init` that names them.
  var key: String
  /// As the run file has it.
  var path: String
  /// Of a file of weights its own, of a sharded one that of its files' checksums, of a checkpoint that of its manifest.
  var sha256: String
}

extension TrainingInputs {
  /// The weights with which the run file has a model of such sizes begin, found to fit; nil where all are drawn. The
  /// same on every rank. Every rank must call it.
  func initialization(for config: CLIPConfig) throws -> (any Initialization)? {
    let inherited = try InheritedWeights(run, student: config, over: ranks)
    let first: (any Initialization)? = try inherited ?? TransferredWeights(run, student: config, over: ranks)
    try ranks.requireSame(inherited == nil ? "init.from" : "model to inherit from", first?.saved.sha256 ?? "")
    return first
  }
}
