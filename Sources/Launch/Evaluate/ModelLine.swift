import Dist
import Foundation
import Model
import Tensor

/// The models (1 − t) · A + t · B on the line between the weights of two models, such as a model and its tuned form
/// (WiSE-FT; Wortsman et al.: Robust fine-tuning of zero-shot models, CVPR 2022). They are those of kinship merge with
/// the weights 1 − t and t: sums in Double, rounded once.
struct ModelLine {
  /// The model of the last `move`, at first A, with A's preparation of images and texts.
  let embedder: CLIPEmbedder
  private let ends: [(values: Tensor<Float>, buffers: Tensor<Double>)]
  private let sums: Tensor<Double>

  /// Takes both ends, with their paths. Throws a `UserError` (exit code 65) if they differ in more than their weights.
  init(from start: (path: String, embedder: CLIPEmbedder), to end: (path: String, embedder: CLIPEmbedder)) throws {
    let (one, other) = (start.embedder, end.embedder)
    var problems = try one.model.config.differences(from: other.model.config)
    if !one.image.isNormalizedAndResized(as: other.image) || one.image.exif != other.image.exif {
      problems.append("its images are prepared in another way")
    } else if one.image.alpha != other.image.alpha {
      let (theirs, ours) = (other.image.alpha.rawValue, one.image.alpha.rawValue)
      problems.append("its transparent pixels become opaque by \(theirs), not \(ours); say which with --alpha")
    }
    if let ours = one.tokenizer?.vocabulary, let theirs = other.tokenizer?.vocabulary, ours != theirs {
      problems.append("it has another vocabulary")
    }
    guard problems.isEmpty else {
      let reason = "\(end.path) does not hold the same model, so nothing lies between them:\n  "
      throw UserError(start.path, reason + problems.joined(separator: "\n  "))
    }
    embedder = one
    let parameters = one.model.parameters
    let (values, buffers) = (Tensor<Float>(Shape(parameters.count)), Tensor<Double>(parameters.bufferValues.shape))
    copy(parameters.values, into: values)
    copy(parameters.bufferValues, into: buffers)
    ends = [(values, buffers), (other.model.parameters.values, other.model.parameters.bufferValues)]
    sums = Tensor(Shape(min(parameters.count, Self.piece)))
  }

  private static let piece = 1 << 20

  /// Makes the model that of the share `t` of B, 0 to 1.
  func move(to t: Double) {
    let (parameters, weights) = (embedder.model.parameters, [1 - t, t])
    for start in stride(from: 0, to: parameters.count, by: Self.piece) {
      let range = start..<min(start + Self.piece, parameters.count)
      let sums = sums.slice(0..<range.count)
      fill(sums, 0)
      for (end, weight) in zip(ends, weights) { add(end.values.slice(range), weight: weight, toSums: sums) }
      round(sums: sums, into: parameters.values.slice(range))
    }
    // Counts of batches, which evaluations do not use, lie on the line too.
    for at in 0..<parameters.bufferValues.count {
      let mean = zip(ends, weights).reduce(0) { $0 + $1.1 * $1.0.buffers[at] }
      parameters.bufferValues[at] = Double(Float(mean))
    }
  }

  /// Evaluates the models at 0, 1/n … 1 for n `parts`. Every rank must call it.
  func evaluate(_ evaluation: any Evaluation, parts: Int, over ranks: Communicator) throws -> [Point] {
    try (0...parts).map { part in
      let t = Double(part) / Double(parts)
      move(to: t)
      return Point(weight: t, figures: try evaluation.run(embedder, over: ranks, pause: {}))
    }
  }

  /// The figures of one model, as a flat JSON object with its share of B.
  struct Point: Encodable {
    let weight: Double
    let figures: any EvaluationFigures

    enum CodingKeys: CodingKey { case weight }

    func encode(to encoder: any Encoder) throws {
      try figures.encode(to: encoder)
      var values = encoder.container(keyedBy: CodingKeys.self)
      try values.encode(weight, forKey: .weight)
    }
  }

  /// Returns a table with a line for each model: its share of B, and its figures in percent.
  static func table(_ points: [Point]) -> String {
    let names = points.first.map { type(of: $0.figures).names } ?? []
    let head = ["weight"] + names.map { "\($0), %" }
    let rows = points.map { point in
      [Figures.significant(point.weight, 4)] + point.figures.values.map { Figures.fixed(100 * $0, 2) }
    }
    return Figures.table([head] + rows)
  }
}

/// The figures along a line with the models at its ends, as one JSON object.
struct LineReport: Encodable {
  let checkpoint: String
  let interpolateTo: String
  let alpha: AlphaHandling
  let points: [ModelLine.Point]

  enum CodingKeys: String, CodingKey {
    case checkpoint, alpha, points
    case interpolateTo = "interpolate_to"
  }
}
