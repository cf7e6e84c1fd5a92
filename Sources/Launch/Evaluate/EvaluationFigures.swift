import Foundation
import Model

/// The results of an evaluation, for people and for tools.
protocol EvaluationFigures: Encodable {
  var lines: [String] { get }
}

/// The results of one direction of retrieval. Ranks count from 1.
struct Recall: Codable, Equatable {
  /// The number of queries: images, or captions.
  var queries: Int
  /// The number of candidates for each query.
  var candidates: Int
  /// The number of queries with an answer among the first 1, 5 and 10 candidates.
  var hits1: Int
  var hits5: Int
  var hits10: Int
  /// The same as shares, 0 to 1.
  var recall1: Double
  var recall5: Double
  var recall10: Double
  var medianPlace: Int
  var meanPlace: Double

  enum CodingKeys: String, CodingKey {
    case queries, candidates
    case hits1 = "hits@1"
    case hits5 = "hits@5"
    case hits10 = "hits@10"
    case recall1 = "R@1"
    case recall5 = "R@5"
    case recall10 = "R@10"
    case medianPlace = "median_rank"
    case meanPlace = "mean_rank"
  }

  init(_ places: PlaceCounts) {
    queries = places.queries
    candidates = places.counts.count
    hits1 = places.hits(at: 1)
    hits5 = places.hits(at: 5)
    hits10 = places.hits(at: 10)
    recall1 = places.share(at: 1)
    recall5 = places.share(at: 5)
    recall10 = places.share(at: 10)
    medianPlace = places.median
    meanPlace = places.mean
  }

  var line: String {
    "R@1 \(percent(recall1))  R@5 \(percent(recall5))  R@10 \(percent(recall10))"
      + "  median rank \(medianPlace) of \(candidates)"
  }
}

struct RetrievalFigures: EvaluationFigures, Codable, Equatable {
  var kind = "retrieval"
  /// The dataset's name.
  var dataset: String
  var images: Int
  /// The number of captions that took part: all, or one of each text.
  var captions: Int
  /// Which of an image's captions took part: all, or the first.
  var captionsTaken: RetrievalEvaluation.Captions
  var candidates: RetrievalEvaluation.Candidates
  var duplicates: RetrievalEvaluation.Duplicates
  var imageToText: Recall
  var textToImage: Recall

  enum CodingKeys: String, CodingKey {
    case kind, captions, candidates, duplicates
    case dataset = "corpus"
    case images = "pictures"
    case captionsTaken = "captions_taken"
    case imageToText = "image_to_text"
    case textToImage = "text_to_image"
  }

  var lines: [String] {
    let which = (candidates == .captions ? "" : "distinct ") + (captionsTaken == .all ? "" : "first ")
    return [
      "retrieval on \(dataset): \(images) images, \(captions) \(which)captions",
      "  image to caption  \(imageToText.line)",
      "  caption to image  \(textToImage.line)",
    ]
  }
}

struct ZeroShotFigures: EvaluationFigures, Codable, Equatable {
  var kind = "zero-shot"
  /// The dataset's name.
  var dataset: String
  /// The number of images that were classified.
  var images: Int
  /// The number of classes among which the model chose.
  var classes: Int
  /// The number of all classes.
  var ofClasses: Int
  var templates: Int
  var top1Correct: Int
  var top5Correct: Int
  /// The same as shares, 0 to 1.
  var top1: Double
  var top5: Double

  enum CodingKeys: String, CodingKey {
    case kind, classes, templates, top1, top5
    case dataset = "corpus"
    case images = "pictures"
    case ofClasses = "of_classes"
    case top1Correct = "top1_correct"
    case top5Correct = "top5_correct"
  }

  var lines: [String] {
    let among = classes == ofClasses ? "\(classes) classes" : "\(classes) of \(ofClasses) classes"
    return [
      "zero-shot on \(dataset): \(images) images, \(among), \(Figures.count(templates, "template"))",
      "  top-1 \(percent(top1))  top-5 \(percent(top5))",
    ]
  }
}

private func percent(_ share: Double) -> String { Figures.fixed(100 * share, 2) + " %" }

/// Figures with the model that they belong to, as one flat JSON object.
struct EvaluationReport: Encodable {
  let checkpoint: String
  /// The training step of the checkpoint, if it is known.
  let step: Int?
  let figures: any EvaluationFigures

  enum CodingKeys: CodingKey { case checkpoint, step }

  func encode(to encoder: any Encoder) throws {
    try figures.encode(to: encoder)
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(checkpoint, forKey: .checkpoint)
    try values.encodeIfPresent(step, forKey: .step)
  }

  /// Replaces the file as a whole.
  func write(to path: String) throws {
    do {
      try Data((jsonText(.prettyPrinted) + "\n").utf8).write(to: URL(filePath: path), options: .atomic)
    } catch {
      throw EvaluationError.unwritable(
        path: path, reason: (error as NSError).localizedFailureReason ?? error.localizedDescription)
    }
  }
}
