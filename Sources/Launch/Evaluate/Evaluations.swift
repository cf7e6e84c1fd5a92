import ArgumentParser
import Dist
import Foundation
import Model
import Settings
import Tensor

/// Measures recall of captions by images and of images by captions.
struct RetrievalEvaluation: Evaluation {
  /// The captions among which an image finds its own, and which are asked for their images.
  enum Candidates: String, CaseIterable, Codable, ExpressibleByArgument {
    case captions
    case distinctCaptions = "distinct-captions"
  }

  enum Captions: String, CaseIterable, Codable, ExpressibleByArgument, FieldValue {
    case all
    /// The first one, as in CLIP-KD's and the paper's protocol.
    case first
  }

  enum Duplicates: String, CaseIterable, Codable, ExpressibleByArgument, FieldValue {
    /// They are the same caption: each is an answer for every image that has one of them.
    case hits
    /// They are different captions: only an image's own captions are answers, as in CLIP-KD and the paper.
    case strict
  }

  let dataset: Dataset
  var candidates = Candidates.captions
  var captions = Captions.all
  /// With `strict`, the candidates are `captions`.
  var duplicates = Duplicates.hits
  var title: String {
    "retrieval \(dataset.name)" + (captions == .first ? " first" : "") + (duplicates == .strict ? " strict" : "")
  }

  func run(
    _ embedder: CLIPEmbedder, over communicator: Communicator, pause: @escaping () throws -> Void = {}
  ) throws -> RetrievalFigures {
    var taken = try EvaluatedCaptions(captions, of: dataset)
    let numbers =
      duplicates == .strict
      ? Array(0..<taken.count) : try communicator.textNumbers(taken.count) { taken.text($0) }
    var pairs = RetrievalPairs(images: dataset.count, captionImage: taken.samples, captionText: numbers)
    if candidates == .distinctCaptions {
      taken = taken.keeping(pairs.firstCaptions)
      pairs = pairs.distinct
    }
    let width = embedder.model.config.embedding
    try EvaluationEstimate(
      title, images: dataset.count, captions: taken.count, width: width, ranks: communicator.size
    ).requireMemory(over: communicator)
    let encoder = BlockEncoder(embedder: embedder, communicator: communicator, pause: pause)
    let images = try encoder.images(of: dataset, samples: Array(0..<dataset.count))
    let texts = try encoder.texts(taken.count) { taken.text($0) }
    let figures = try RetrievalRanking(pairs: pairs, pause: pause).places(images: images, texts: texts)
    return RetrievalFigures(
      dataset: dataset.name, images: dataset.count, captions: taken.count, captionsTaken: captions,
      candidates: candidates, duplicates: duplicates, imageToText: Recall(figures.imageToText),
      textToImage: Recall(figures.textToImage))
  }
}

extension Dataset {
  /// Returns the captions of some samples, and for each of them the place of its sample in the list.
  func texts(_ captions: RetrievalEvaluation.Captions, of samples: [Int]) throws -> (texts: [String], images: [Int]) {
    guard !samples.isEmpty else { throw nothingToEvaluate("images") }
    let own = samples.map { self.captions($0).prefix(captions == .all ? .max : 1) }
    let texts = own.flatMap { $0 }
    guard !texts.isEmpty else { throw nothingToEvaluate("captions") }
    return (texts, own.indices.flatMap { [Int](repeating: $0, count: own[$0].count) })
  }

  func nothingToEvaluate(_ lacks: String) -> UserError {
    UserError("the dataset \(name) has no \(lacks); evaluate on one that has")
  }
}

protocol Evaluation {
  associatedtype Results: EvaluationFigures
  var dataset: Dataset { get }
  /// The name in a run's log, which includes the protocol, because a dataset may be evaluated by several.
  var title: String { get }

  /// Returns the same figures on every rank, all of which must call it. `pause` is called between blocks.
  func run(_ embedder: CLIPEmbedder, over communicator: Communicator, pause: @escaping () throws -> Void) throws
    -> Results
}

extension Evaluation {
  /// The names of the figures in a run's log.
  var names: [String] { Results.names }
}

extension Encodable {
  /// Writes the value as a file of JSON.
  func writeJSON(to path: String) throws {
    let text = try jsonText(.prettyPrinted) + "\n"
    do throws(FileError) {
      try Publish.file(path) { file throws(FileError) in try file.append(Array(text.utf8)) }
    } catch { throw UserError("cannot write \(path): \(error.reason)", status: .inputOutput) }
  }
}
