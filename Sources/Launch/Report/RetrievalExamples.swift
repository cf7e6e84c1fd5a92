import Dist
import Foundation
import Model
import Tensor

/// Examples of what a model finds: captions with the images nearest to them, and images with the captions nearest to
/// them.
///
/// The queries are drawn at random and are the same at every call, so that they are not chosen for their results.
struct RetrievalExamples {
  /// The largest number of images that are searched. They are spread evenly over a larger dataset.
  static let most = 1000
  /// The number of nearest candidates shown.
  static let shown = 5

  /// A candidate near a query.
  struct Found {
    /// The caption, or the first caption of the image.
    var text: String
    /// The image as a data URI; nil for a caption.
    var image: String?
    /// The cosine of the angle between query and candidate.
    var score: Double
    var isRight: Bool
  }

  struct Query {
    var text: String
    var image: String?
    var nearest: [Found]
    /// The best right answer; nil if it is among the nearest, or if there is none.
    var answer: Found?
    /// The place of the best right answer, from 1; nil if there is none.
    var place: Int?
  }

  let dataset: String
  /// The number of images that were searched.
  let images: Int
  /// The number of different captions that were searched.
  let captions: Int
  /// The number of images in the dataset.
  let datasetImages: Int
  /// The step after which the model was saved.
  let step: Int
  /// Captions with the images nearest to them.
  let captionQueries: [Query]
  /// Images with the captions nearest to them.
  let imageQueries: [Query]

  /// - Parameters:
  ///   - dataset: the images and captions.
  ///   - captionsTaken: all captions of an image, or its first.
  ///   - count: how many queries of each kind are drawn.
  ///   - ranks: a communicator of this rank alone, so that an error here needs no agreement with other ranks.
  init(
    _ embedder: CLIPEmbedder, step: Int, dataset: Dataset, captionsTaken: RetrievalEvaluation.Captions, count: Int,
    over ranks: Communicator
  ) throws {
    precondition(ranks.size == 1)
    guard dataset.count > 0 else { throw EvaluationError.nothingToEvaluate(dataset: dataset.name, lacks: "images") }
    let number = min(dataset.count, Self.most)
    let samples = (0..<number).map { $0 * dataset.count / number }
    var texts: [String] = []
    var imageOfText: [Int] = []
    for (row, sample) in samples.enumerated() {
      let own = captionsTaken == .all ? dataset.captions(sample) : Array(dataset.captions(sample).prefix(1))
      texts += own
      imageOfText += [Int](repeating: row, count: own.count)
    }
    guard !texts.isEmpty else { throw EvaluationError.nothingToEvaluate(dataset: dataset.name, lacks: "captions") }
    let all = RetrievalPairs(images: number, captionImage: imageOfText, captionText: RetrievalPairs.texts(of: texts))
    // Each text once: the nearest five would otherwise often be the same caption five times.
    let captions = all.firstCaptions.map { texts[$0] }
    let pairs = all.distinct
    let encoder = BlockEncoder(embedder: embedder, communicator: ranks)
    let images = try encoder.images(of: dataset, samples: samples)
    let words = try encoder.texts(captions)

    var thumbnails = Thumbnails(embedder.image)
    var bytes: [UInt8] = []
    func image(_ row: Int) throws -> String {
      try dataset.readImage(samples[row], into: &bytes)
      do { return try thumbnails.uri(bytes) } catch {
        throw SampleError(dataset: dataset.name, key: dataset.key(samples[row]), reason: error)
      }
    }
    func title(_ row: Int) -> String { dataset.captions(samples[row]).first ?? dataset.key(samples[row]) }
    captionQueries = try Self.draw(count, of: captions.count).map { query in
      try Self.query(captions[query], nil, words, query, images, pairs.images(answering: query)) { row in
        (title(row), try image(row))
      }
    }
    // Only images with captions have a right answer.
    let asked = (0..<number).filter { !pairs.captions(answering: $0).isEmpty }
    imageQueries = try Self.draw(count, of: asked.count).map { asked[$0] }.map { query in
      try Self.query(title(query), image(query), images, query, words, pairs.captions(answering: query)) { row in
        (captions[row], nil)
      }
    }
    self.dataset = dataset.name
    self.images = number
    self.captions = captions.count
    datasetImages = dataset.count
    self.step = step
  }

  /// Draws `wanted` different numbers below `count`, or all of them if there are fewer, and sorts them.
  static func draw(_ wanted: Int, of count: Int) -> [Int] {
    var random = KeyedRandom(seed: 0, purpose: "report")
    var drawn: Set<Int> = []
    while drawn.count < min(wanted, count) { drawn.insert(random.below(count)) }
    return drawn.sorted()
  }

  /// Finds the candidates nearest to a query; equal ones stay in their order.
  private static func query(
    _ text: String, _ image: String?, _ queries: Tensor<Float>, _ row: Int, _ candidates: Tensor<Float>,
    _ answers: [Int], show: (Int) throws -> (text: String, image: String?)
  ) throws -> Query {
    let cosines = Tensor<Float>(Shape(1, candidates.rows))
    matmul(queries.rows(row..<row + 1), candidates, into: cosines, transposeB: true)
    let scores = cosines.array
    let right = Set(answers)
    func found(_ row: Int) throws -> Found {
      let shown = try show(row)
      return Found(text: shown.text, image: shown.image, score: Double(scores[row]), isRight: right.contains(row))
    }
    let order = scores.indices.sorted { (-scores[$0], $0) < (-scores[$1], $1) }
    let nearest = order.prefix(shown)
    let answer = order.first { right.contains($0) }
    let place = Ranking.places(of: queries, in: row..<row + 1, among: candidates, answers: { _ in answers })[0]
    return Query(
      text: text, image: image, nearest: try nearest.map(found),
      answer: try answer.flatMap { nearest.contains($0) ? nil : try found($0) }, place: place.map { $0 + 1 })
  }
}

/// Scales images down for a page.
struct Thumbnails {
  /// The longer side in pixels. Smaller images keep their size.
  static let side = 160

  private var decoder: ImageDecoder
  private var resampler = Resampler()

  init(_ options: ImageOptions) {
    decoder = ImageDecoder(alpha: options.alpha, exif: options.exif, maxPixels: options.maxPixels)
  }

  /// Decodes an image, scales it down, and returns it as a data URI.
  mutating func uri(_ bytes: [UInt8]) throws(ImageError) -> String {
    var image = try decoder.decode(bytes)
    let longer = max(image.width, image.height)
    if longer > Self.side {
      func scaled(_ size: Int) -> Int { max(1, size * Self.side / longer) }
      image = resampler.resize(image, width: scaled(image.width), height: scaled(image.height))
    }
    return "data:image/webp;base64," + Data(try image.encoded(as: .webp)).base64EncodedString()
  }
}
