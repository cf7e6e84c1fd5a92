import ArgumentParser
import Dist
import Model
import Settings
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

  /// Which of a picture's captions take part.
  enum Captions: String, CaseIterable, Codable, ExpressibleByArgument, FieldValue {
    case all
    /// The first one: CLIP-KD's and the paper's protocol.
    case first
  }

  /// What equal captions of different pictures are to each other.
  enum Duplicates: String, CaseIterable, Codable, ExpressibleByArgument, FieldValue {
    /// The same caption: each of them answers for every picture that has one of them.
    case hits
    /// Different captions: only its own pair answers, as in CLIP-KD and the paper.
    case strict
  }

  let corpus: Corpus
  var candidates = Candidates.captions
  var captions = Captions.all
  /// With `strict` the candidates are captions.
  var duplicates = Duplicates.hits

  /// Every rank must call it; all get the same figures. `pause` is called between blocks: see `BlockEncoder`.
  func run(
    _ embedder: any Embedder, over communicator: Communicator, pause: @escaping () throws -> Void = {}
  ) throws -> RetrievalFigures {
    var texts: [String] = []
    var pictureOfText: [Int] = []
    for sample in 0..<corpus.count {
      let own = captions == .all ? corpus.captions(sample) : Array(corpus.captions(sample).prefix(1))
      texts += own
      pictureOfText += [Int](repeating: sample, count: own.count)
    }
    guard corpus.count > 0 else {
      throw EvaluationError.nothingToEvaluate(corpus: corpus.name, lacks: "pictures")
    }
    guard !texts.isEmpty else { throw EvaluationError.nothingToEvaluate(corpus: corpus.name, lacks: "captions") }
    let numbers = duplicates == .strict ? Array(texts.indices) : RetrievalPairs.texts(of: texts)
    var pairs = RetrievalPairs(images: corpus.count, captionImage: pictureOfText, captionText: numbers)
    if candidates == .distinctCaptions {
      texts = pairs.firstCaptions.map { texts[$0] }
      pairs = pairs.distinct
    }

    let encoder = BlockEncoder(embedder: embedder, communicator: communicator, pause: pause)
    let images = try encoder.pictures(of: corpus, samples: Array(0..<corpus.count))
    let queries = try encoder.texts(texts)
    return RetrievalFigures(
      corpus: corpus.name, pictures: corpus.count, captions: texts.count, captionsTaken: captions,
      candidates: candidates, duplicates: duplicates,
      imageToText: Recall(
        try communicator.places(of: images, among: queries, answers: pairs.captions(answering:))),
      textToImage: Recall(
        try communicator.places(of: queries, among: images, answers: pairs.images(answering:))))
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
