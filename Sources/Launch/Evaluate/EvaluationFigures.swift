import Dist
import Foundation
import Model

protocol EvaluationFigures: Codable, Equatable {
  /// The names of the figures that a run's log has. More is better for each.
  static var names: [String] { get }
  /// The figures in the order of their names.
  var values: [Double] { get }
  var lines: [String] { get }
}

/// The results of one direction of retrieval. Ranks count from 1.
struct Recall: Codable, Equatable {
  /// The number of queries, images or captions, and of the candidates for each.
  var queries: Int
  var candidates: Int
  /// The number of queries with an answer among the first 1, 5 and 10 candidates, and the same as shares, 0 to 1.
  var hits1: Int
  var hits5: Int
  var hits10: Int
  var recall1: Double
  var recall5: Double
  var recall10: Double
  var medianPlace: Int
  var meanPlace: Double
  /// The mean of 1/rank over the queries, whose ranks are among all candidates.
  var meanReciprocal: Double

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
    case meanReciprocal = "MRR"
  }

  init(_ places: PlaceCounts) {
    (queries, candidates) = (places.queries, places.counts.count)
    (hits1, hits5, hits10) = (places.hits(at: 1), places.hits(at: 5), places.hits(at: 10))
    (recall1, recall5, recall10) = (places.share(at: 1), places.share(at: 5), places.share(at: 10))
    (medianPlace, meanPlace, meanReciprocal) = (places.median, places.mean, places.meanReciprocal)
  }

  fileprivate var line: String {
    "R@1 \(percent(recall1))  R@5 \(percent(recall5))  R@10 \(percent(recall10))"
      + "  MRR \(percent(meanReciprocal))  median rank \(medianPlace) of \(candidates)"
  }

  fileprivate static let names = ["R@1", "R@5", "R@10", "MRR"]
  fileprivate var values: [Double] { [recall1, recall5, recall10, meanReciprocal] }
}

struct RetrievalFigures: EvaluationFigures {
  static let names = ["i2t", "t2i"].flatMap { direction in Recall.names.map { "\(direction) \($0)" } }
  var kind = "retrieval"
  var dataset: String
  var images: Int
  /// The number of captions that took part, and which of an image's captions these were.
  var captions: Int
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
      "retrieval on \(dataset): \(Figures.count(images, "image")), \(Figures.count(captions, which + "caption"))",
      "  image to caption  \(imageToText.line)", "  caption to image  \(textToImage.line)",
    ]
  }
  var values: [Double] { imageToText.values + textToImage.values }
}

struct ZeroShotFigures: EvaluationFigures {
  static let names = ["top-1", "top-5"]
  var kind = "zero-shot"
  var dataset: String
  var images: Int
  /// The number of classes among which the model chose, and of all classes.
  var classes: Int
  var ofClasses: Int
  var templates: Int
  /// The numbers of right answers, and the same as shares, 0 to 1.
  var top1Correct: Int
  var top5Correct: Int
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
    let among = (classes == ofClasses ? "" : "\(classes) of ") + Figures.count(ofClasses, "class", "classes")
    return [
      "zero-shot on \(dataset): \(Figures.count(images, "image")), \(among), \(Figures.count(templates, "template"))",
      "  top-1 \(percent(top1))  top-5 \(percent(top5))",
    ]
  }
  var values: [Double] { [top1, top5] }
}

private func percent(_ share: Double) -> String { Figures.fixed(100 * share, 2) + " %" }

/// Figures with the model that they belong to, its training step if it is known, and how transparent pixels became
/// opaque, as one flat JSON object.
struct EvaluationReport: Encodable {
  let checkpoint: String
  let step: Int?
  let alpha: AlphaHandling
  let figures: any EvaluationFigures

  enum CodingKeys: CodingKey { case checkpoint, step, alpha }

  func encode(to encoder: any Encoder) throws {
    try figures.encode(to: encoder)
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(checkpoint, forKey: .checkpoint)
    try values.encodeIfPresent(step, forKey: .step)
    try values.encode(alpha, forKey: .alpha)
  }
}
