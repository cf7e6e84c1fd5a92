import Model

/// What an evaluation found, for people and for tools.
protocol EvaluationFigures: Encodable {
  var lines: [String] { get }
}

/// One direction of retrieval. Places count from 1.
struct Recall: Codable, Equatable {
  /// Pictures or captions that looked for an answer, and among how many candidates.
  var queries: Int
  var candidates: Int
  /// Queries whose answer was among the first 1, 5, 10; and their shares, 0 to 1.
  var hits1: Int
  var hits5: Int
  var hits10: Int
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
  /// The corpus's name.
  var corpus: String
  var pictures: Int
  /// Captions that took part: all, or one of each text.
  var captions: Int
  /// All captions of a picture, or its first.
  var captionsTaken: RetrievalEvaluation.Captions
  var candidates: RetrievalEvaluation.Candidates
  var duplicates: RetrievalEvaluation.Duplicates
  var imageToText: Recall
  var textToImage: Recall

  enum CodingKeys: String, CodingKey {
    case kind, corpus, pictures, captions, candidates, duplicates
    case captionsTaken = "captions_taken"
    case imageToText = "image_to_text"
    case textToImage = "text_to_image"
  }

  var lines: [String] {
    let which = (candidates == .captions ? "" : "distinct ") + (captionsTaken == .all ? "" : "first ")
    return [
      "retrieval on \(corpus): \(pictures) pictures, \(captions) \(which)captions",
      "  picture to caption  \(imageToText.line)",
      "  caption to picture  \(textToImage.line)",
    ]
  }
}

struct ZeroShotFigures: EvaluationFigures, Codable, Equatable {
  var kind = "zero-shot"
  /// The corpus's name.
  var corpus: String
  /// Pictures that were classified.
  var pictures: Int
  /// Classes among which the model chose, and how many there are.
  var classes: Int
  var ofClasses: Int
  var templates: Int
  var top1Correct: Int
  var top5Correct: Int
  /// Shares, 0 to 1.
  var top1: Double
  var top5: Double

  enum CodingKeys: String, CodingKey {
    case kind, corpus, pictures, classes, templates, top1, top5
    case ofClasses = "of_classes"
    case top1Correct = "top1_correct"
    case top5Correct = "top5_correct"
  }

  var lines: [String] {
    let among = classes == ofClasses ? "\(classes) classes" : "\(classes) of \(ofClasses) classes"
    return [
      "zero-shot on \(corpus): \(pictures) pictures, \(among), \(templates) \(templates == 1 ? "template" : "templates")",
      "  top-1 \(percent(top1))  top-5 \(percent(top5))",
    ]
  }
}

private func percent(_ share: Double) -> String { Figures.fixed(100 * share, 2) + " %" }
