import Dist
import Foundation
import Model
import Tensor

/// What a model finds: captions with the pictures nearest to them, and pictures with the captions nearest to them.
///
/// The queries are drawn at random, the same at every call: nobody has chosen the good ones.
struct RetrievalExamples {
  /// So many pictures of a corpus are looked among; of a larger one every so-many-th.
  static let most = 1000
  /// So many of the nearest are shown.
  static let shown = 5

  /// Something near a query.
  struct Found {
    /// The caption, or the first caption of the picture.
    var text: String
    /// The picture, for pages; nil of a caption.
    var picture: String?
    /// The cosine of the angle between query and candidate.
    var score: Double
    var isRight: Bool
  }

  struct Query {
    var text: String
    var picture: String?
    var nearest: [Found]
    /// The best right answer, where it is not among the nearest.
    var answer: Found?
    /// At which place the best right answer is, from 1.
    var place: Int?
  }

  let corpus: String
  /// Pictures and different captions that were looked among, and how many pictures there are.
  let pictures: Int
  let captions: Int
  let ofPictures: Int
  let step: Int
  /// Captions that look for pictures, and pictures that look for captions.
  let ofCaptions: [Query]
  let ofPicturesAsked: [Query]

  /// - Parameters:
  ///   - corpus: the pictures and captions.
  ///   - captionsTaken: all captions of a picture, or its first.
  ///   - count: queries of each kind.
  ///   - ranks: a communicator of one rank: what goes wrong here goes wrong nowhere else.
  init(
    _ embedder: CLIPEmbedder, step: Int, corpus: Corpus, captionsTaken: RetrievalEvaluation.Captions, count: Int,
    over ranks: Communicator
  ) throws {
    precondition(ranks.size == 1)
    guard corpus.count > 0 else { throw EvaluationError.nothingToEvaluate(corpus: corpus.name, lacks: "pictures") }
    let number = min(corpus.count, Self.most)
    let samples = (0..<number).map { $0 * corpus.count / number }
    var texts: [String] = []
    var pictureOfText: [Int] = []
    for (row, sample) in samples.enumerated() {
      let own = captionsTaken == .all ? corpus.captions(sample) : Array(corpus.captions(sample).prefix(1))
      texts += own
      pictureOfText += [Int](repeating: row, count: own.count)
    }
    guard !texts.isEmpty else { throw EvaluationError.nothingToEvaluate(corpus: corpus.name, lacks: "captions") }
    let all = RetrievalPairs(images: number, captionImage: pictureOfText, captionText: RetrievalPairs.texts(of: texts))
    // Each text once: five times the same caption would say little.
    let captions = all.firstCaptions.map { texts[$0] }
    let pairs = all.distinct
    let encoder = BlockEncoder(embedder: embedder, communicator: ranks)
    let images = try encoder.pictures(of: corpus, samples: samples)
    let words = try encoder.texts(captions)

    var thumbnails = Thumbnails(embedder.image)
    var bytes: [UInt8] = []
    func picture(_ row: Int) throws -> String {
      try corpus.readImage(samples[row], into: &bytes)
      do { return try thumbnails.uri(bytes) } catch {
        throw SampleError(corpus: corpus.name, key: corpus.key(samples[row]), reason: error)
      }
    }
    func title(_ row: Int) -> String { corpus.captions(samples[row]).first ?? corpus.key(samples[row]) }
    ofCaptions = try Self.draw(count, of: captions.count).map { query in
      try Self.query(captions[query], nil, words, query, images, pairs.images(answering: query)) { row in
        (title(row), try picture(row))
      }
    }
    // Those with captions have an answer.
    let asked = (0..<number).filter { !pairs.captions(answering: $0).isEmpty }
    ofPicturesAsked = try Self.draw(count, of: asked.count).map { asked[$0] }.map { query in
      try Self.query(title(query), picture(query), images, query, words, pairs.captions(answering: query)) { row in
        (captions[row], nil)
      }
    }
    self.corpus = corpus.name
    self.pictures = number
    self.captions = captions.count
    ofPictures = corpus.count
    self.step = step
  }

  /// Different numbers below `count`, rising; fewer where there are not so many.
  static func draw(_ wanted: Int, of count: Int) -> [Int] {
    var random = KeyedRandom(seed: 0, purpose: "report")
    var drawn: Set<Int> = []
    while drawn.count < min(wanted, count) { drawn.insert(random.below(count)) }
    return drawn.sorted()
  }

  /// A query with the candidates nearest to it; equal ones are in their order.
  private static func query(
    _ text: String, _ picture: String?, _ queries: Tensor<Float>, _ row: Int, _ candidates: Tensor<Float>,
    _ answers: [Int], show: (Int) throws -> (text: String, picture: String?)
  ) throws -> Query {
    let cosines = Tensor<Float>(Shape(1, candidates.rows))
    matmul(queries.rows(row..<row + 1), candidates, into: cosines, transposeB: true)
    let scores = cosines.array
    let right = Set(answers)
    func found(_ row: Int) throws -> Found {
      let shown = try show(row)
      return Found(text: shown.text, picture: shown.picture, score: Double(scores[row]), isRight: right.contains(row))
    }
    let order = scores.indices.sorted { (-scores[$0], $0) < (-scores[$1], $1) }
    let nearest = order.prefix(shown)
    let answer = order.first { right.contains($0) }
    let place = Ranking.places(of: queries, in: row..<row + 1, among: candidates, answers: { _ in answers })[0]
    return Query(
      text: text, picture: picture, nearest: try nearest.map(found),
      answer: try answer.flatMap { nearest.contains($0) ? nil : try found($0) }, place: place.map { $0 + 1 })
  }
}
