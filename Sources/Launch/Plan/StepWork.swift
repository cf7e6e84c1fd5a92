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
  var precision: Precision
  var teacherPrecision: Precision

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
    let inPieces = run.batch.micro.map { $0 < b } ?? false
    forward = once + (inPieces ? learning : 0)
    backward =
      2 * learning + Double(b) * config.repeatedOperations(tokens: tokens, run.batch.recompute, frozen: frozen)
    self.teacher = teacher.map { Self.forward($0, rows: b, tokens: tokens) } ?? 0
    // Own rows against all N, for both modalities: a product for a softmax in the first pass, and in the second again and for
    // the gradient; with a teacher's softmax beside it, two more.
    let options = run.objective.declared
    let rowsByAll = 2 * Double(b) * Double(run.batch.global)
    let (own, other) = (Double(config.embedding), Double(teacherWidth ?? config.embedding))
    let alone = 2 * rowsByAll * 3 * own
    let beside = 2 * rowsByAll * (3 * own + 2 * other)
    objective =
      (options.clip != 0 ? alone : 0)
      + [options.crd, options.intra, options.affinity].reduce(0) {
        $0 + ($1 != 0 ? beside : 0)
      } + [options.icl, options.crossKD, options.gd].reduce(0) { $0 + ($1 != 0 ? 2 * rowsByAll * 3 * other : 0) }
  }

  private static func forward(_ config: CLIPConfig, rows b: Int, tokens: Double) -> Double {
    Double(b) * config.forwardOperations(tokens: tokens)
  }
}
