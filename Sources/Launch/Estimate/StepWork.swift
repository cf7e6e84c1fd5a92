import Model
import Tensor

/// Operations of the matrix products of one rank's step: multiply-adds count twice.
struct StepWork {
  /// Towers' forward of its pairs; with pieces, features of all come first and the towers run again.
  var forward: Double
  /// With what is computed again for it.
  var backward: Double
  var objective: Double
  /// The teacher's forward; 0 where its embeddings come from a cache.
  var teacher: Double

  /// Of the towers' products, and of the teacher's; the objective's are exact.
  var precision: ComputePrecision
  var teacherPrecision: ComputePrecision

  var total: Double { forward + backward + objective + teacher }

  /// - Parameters:
  ///   - frozen: towers that learn nothing run forward once, and never backward.
  ///   - teacher: nil where there is none to compute.
  ///   - rows: b, this rank's pairs of N.
  ///   - tokens: of a caption, on average.
  init(
    _ run: RunConfig, _ config: CLIPConfig, frozen: Frozen, teacher: CLIPConfig?, teacherWidth: Int?, rows b: Int,
    tokens: Double
  ) {
    precision = run.precision.used
    teacherPrecision = run.teacher?.precision.used ?? .fp32
    let once = Self.forward(config, rows: b, tokens: tokens)
    let image = Double(b) * config.vision.forwardOperations(embedding: config.embedding)
    let learning = (frozen.image ? 0 : image) + (frozen.text ? 0 : once - image)
    let inPieces = run.batch.microBatchSize.map { $0 < b } ?? false
    forward = once + (inPieces ? learning : 0)
    backward =
      2 * learning + Double(b) * config.repeatedOperations(tokens: tokens, run.batch.recompute, frozen: frozen)
    self.teacher = teacher.map { Self.forward($0, rows: b, tokens: tokens) } ?? 0
    objective = run.objective.operations(
      ObjectiveSize(
        rows: b, count: run.batch.global, student: config.embedding, teacher: teacherWidth ?? config.embedding))
  }

  private static func forward(_ config: CLIPConfig, rows b: Int, tokens: Double) -> Double {
    Double(b) * config.forwardOperations(tokens: tokens)
  }
}
