import ArgumentParser
import Dist
import Model
import Tensor

/// Recall of captions by pictures and of pictures by captions.
struct RetrievalEvaluation {
  /// What a picture is to find its caption among, and which captions look for their pictures.
  enum Candidates: String, CaseIterable, Codable, ExpressibleByArgument {
    /// Every caption of the corpus.
    case captions
    /// Every different text once.
    case distinctCaptions = "distinct-captions"
  }

  let corpus: Corpus
  var candidates = Candidates.captions

  /// Every rank must call it; all get the same figures.
  func run(_ embedder: any Embedder, over communicator: Communicator) throws -> RetrievalFigures {
    var texts: [String] = []
    var pictureOfText: [Int] = []
    for sample in 0..<corpus.count {
      let captions = corpus.captions(sample)
      texts += captions
      pictureOfText += [Int](repeating: sample, count: captions.count)
    }
    guard corpus.count > 0 else {
      throw EvaluationError.nothingToEvaluate(corpus: corpus.name, lacks: "pictures")
    }
    guard !texts.isEmpty else { throw EvaluationError.nothingToEvaluate(corpus: corpus.name, lacks: "captions") }
    var pairs = RetrievalPairs(
      images: corpus.count, captionImage: pictureOfText, captionText: RetrievalPairs.texts(of: texts))
    if candidates == .distinctCaptions {
      texts = pairs.firstCaptions.map { texts[$0] }
      pairs = pairs.distinct
    }

    let encoder = BlockEncoder(embedder: embedder, communicator: communicator)
    let images = try encoder.pictures(of: corpus, samples: Array(0..<corpus.count))
    let captions = try encoder.texts(texts)
    return RetrievalFigures(
      corpus: corpus.name, pictures: corpus.count, captions: texts.count, candidates: candidates,
      imageToText: Recall(
        try communicator.places(of: images, among: captions, answers: pairs.captions(answering:))),
      textToImage: Recall(
        try communicator.places(of: captions, among: images, answers: pairs.images(answering:))))
  }
}

extension Communicator {
  /// At which places the queries find their answers: blocks are dealt to the ranks, and whole numbers summed.
  func places(
    of queries: Tensor<Float>, among candidates: Tensor<Float>, answers: (Int) -> [Int]
  ) throws -> PlaceCounts {
    let blocks = Ranking.blocks(queries: queries.rows, candidates: candidates.rows)
    var own = PlaceCounts(candidates: candidates.rows)
    for block in blocks[slice(of: blocks.count)] {
      own.add(Ranking.places(of: queries, in: block, among: candidates, answers: answers))
    }
    var counts = own.counts
    try sum(&counts)
    return PlaceCounts(counts: counts)
  }
}
