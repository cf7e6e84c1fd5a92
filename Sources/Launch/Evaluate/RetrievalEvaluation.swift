import ArgumentParser
import Dist
import Model
import Settings
import Tensor

/// Measures recall of captions by images and of images by captions.
struct RetrievalEvaluation {
  /// The captions among which an image finds its own, and which are asked for their images.
  enum Candidates: String, CaseIterable, Codable, ExpressibleByArgument {
    /// Every caption of the dataset.
    case captions
    /// Each different text once.
    case distinctCaptions = "distinct-captions"
  }

  /// The captions of an image that take part.
  enum Captions: String, CaseIterable, Codable, ExpressibleByArgument, FieldValue {
    case all
    /// The first one, as in CLIP-KD's and the paper's protocol.
    case first
  }

  /// The treatment of equal captions of different images.
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

  /// Returns the same figures on every rank. Every rank must call it. `pause` is called between blocks: see
  /// `BlockEncoder`.
  func run(
    _ embedder: any Embedder, over communicator: Communicator, pause: @escaping () throws -> Void = {}
  ) throws -> RetrievalFigures {
    var texts: [String] = []
    var imageOfText: [Int] = []
    for sample in 0..<dataset.count {
      let own = captions == .all ? dataset.captions(sample) : Array(dataset.captions(sample).prefix(1))
      texts += own
      imageOfText += [Int](repeating: sample, count: own.count)
    }
    guard dataset.count > 0 else {
      throw EvaluationError.nothingToEvaluate(dataset: dataset.name, lacks: "images")
    }
    guard !texts.isEmpty else { throw EvaluationError.nothingToEvaluate(dataset: dataset.name, lacks: "captions") }
    let numbers = duplicates == .strict ? Array(texts.indices) : RetrievalPairs.texts(of: texts)
    var pairs = RetrievalPairs(images: dataset.count, captionImage: imageOfText, captionText: numbers)
    if candidates == .distinctCaptions {
      texts = pairs.firstCaptions.map { texts[$0] }
      pairs = pairs.distinct
    }

    let encoder = BlockEncoder(embedder: embedder, communicator: communicator, pause: pause)
    let images = try encoder.images(of: dataset, samples: Array(0..<dataset.count))
    let queries = try encoder.texts(texts)
    return RetrievalFigures(
      dataset: dataset.name, images: dataset.count, captions: texts.count, captionsTaken: captions,
      candidates: candidates, duplicates: duplicates,
      imageToText: Recall(
        try communicator.places(of: images, among: queries, answers: pairs.captions(answering:))),
      textToImage: Recall(
        try communicator.places(of: queries, among: images, answers: pairs.images(answering:))))
  }
}

extension Communicator {
  /// Counts the places at which queries find their answers. Blocks are dealt to the ranks, and the counts, which are
  /// whole numbers, are summed.
  func places(
    of queries: Tensor<Float>, among candidates: Tensor<Float>, answers: (Int) -> [Int]
  ) throws -> PlaceCounts {
    let blocks = Ranking.blocks(queries: queries.rows, candidates: candidates.rows)
    var own = PlaceCounts(candidates: candidates.rows)
    for block in blocks[slice(of: blocks.count)] {
      own.add(Ranking.places(of: queries, in: block, among: candidates, answers: answers))
    }
    var counts = own.counts
    try allReduce(&counts)
    return PlaceCounts(counts: counts)
  }
}
