import Dist
import Foundation
import Model
import Tensor

/// Retrieval examples on a page, or the reasons why there are none.
struct ExamplesSection {
  var examples: [RetrievalExamples]
  var missing: [String] = []
  private static let longest = 240
  var markup: Markup { "\(missing.map { "<p class=\"note\">\($0)</p>\n" as Markup })\(examples.map(section))" }

  private func section(_ examples: RetrievalExamples) -> Markup {
    let all = examples.images == examples.datasetImages ? "" : " of \(Chart.step(examples.datasetImages))"
    let among = "\(Chart.step(examples.images))\(all)"
    return """
      <h3>\(examples.dataset)</h3>
      <p class="note">The model after step \(Chart.step(examples.step)), among \(among) images and \
      \(Chart.step(examples.captions)) different captions. The queries are drawn at random, not chosen. \
      <span class="mark">✓</span> marks right answers; the best of them stands last where it is not among the nearest \
      five. Numbers are cosines.</p>
      <h4 class="kind">The images nearest to a caption</h4>
      <div class="examples">\(examples.captionQueries.map(captionQuery))</div>
      <h4 class="kind">The captions nearest to an image</h4>
      <div class="examples">\(examples.imageQueries.map(imageQuery))</div>

      """
  }

  private func captionQuery(_ query: RetrievalExamples.Query) -> Markup {
    let items = (query.nearest + [query.answer].compactMap { $0 }).map { found in
      """
      <li\(Self.right(found))><div class="frame">\(Self.image(found.image, Self.short(found.text)))</div>\
      \(Self.mark(found))<span class="score">\(Figures.fixed(found.score, 3))</span></li>
      """ as Markup
    }
    return """
      <article class="example"><p class="query">“<bdi>\(Self.short(query.text))</bdi>”</p>\(verdict(query))\
      <ol class="images">\(items)</ol></article>

      """
  }

  private func imageQuery(_ query: RetrievalExamples.Query) -> Markup {
    func item(_ found: RetrievalExamples.Found, _ note: Markup?) -> Markup {
      """
      <li\(Self.right(found))><span>\(Self.mark(found))</span><span><bdi class="text">\(Self.short(found.text))</bdi>\
      \(note)</span><span class="score">\(Figures.fixed(found.score, 3))</span></li>
      """
    }
    let place: Markup? = query.place.map { " <span class=\"score\">place \(Chart.step($0))</span>" }
    return """
      <article class="example asked"><div><div class="frame">\
      \(Self.image(query.image, Self.short(query.text)))</div></div>\
      <div>\(verdict(query))<ol class="captions">\(query.nearest.map { item($0, nil) })\
      \(query.answer.map { item($0, place) })</ol></div></article>

      """
  }

  private func verdict(_ query: RetrievalExamples.Query) -> Markup {
    let text = query.place.map { $0 == 1 ? "right at once" : "right at place \(Chart.step($0))" } ?? "no answer"
    return "<p class=\"verdict quiet\">\(text)</p>"
  }

  private static func right(_ found: RetrievalExamples.Found) -> Markup? { found.isRight ? " class=\"is-right\"" : nil }

  private static func mark(_ found: RetrievalExamples.Found) -> Markup? {
    found.isRight ? "<span class=\"mark\" role=\"img\" aria-label=\"right\">✓</span> " : nil
  }

  private static func image(_ image: String?, _ text: String) -> Markup? {
    image.map { "<img src=\"\($0)\" alt=\"\(text)\" title=\"\(text)\">" }
  }

  private static func short(_ text: String) -> String { text.shortened(to: longest) }
}

/// Finds retrieval examples for a report, in the dataset that the user names or in those on which the run evaluates.
struct ExampleSearch {
  let run: ReportedRun
  /// The user's dataset, in which an error ends the command; a page does without the run's own.
  let dataset: String?
  let vocabulary: String?
  let count: Int
  /// A communicator of this rank alone.
  let ranks: Communicator

  func section() throws -> ExamplesSection {
    if let dataset { return ExamplesSection(examples: [try examples(dataset, .all, try embedder())]) }
    let evaluations = run.config?.evaluate.evaluations.filter { $0.kind == .retrieval } ?? []
    guard !evaluations.isEmpty else {
      return ExamplesSection(examples: [], missing: ["The run names no dataset for retrieval. \(advice)"])
    }
    var section = ExamplesSection(examples: [])
    do {
      let embedder = try embedder()
      var seen: Set<String> = []
      for evaluation in evaluations where seen.insert(evaluation.dataset).inserted {
        do {
          section.examples.append(try examples(evaluation.dataset, evaluation.captions ?? .all, embedder))
        } catch { section.missing.append("No examples of \(evaluation.dataset): \(error). \(advice)") }
      }
    } catch { section.missing.append("No examples: \(error).") }
    return section
  }

  private var advice: String { "Type kinship report \(run.path) --dataset FOLDER to see examples of another one." }

  private func embedder() throws -> (CLIPEmbedder, step: Int) {
    let trained = try TrainedModel(run.path, over: ranks)
    return (try CLIPEmbedder(trained, vocabulary: vocabulary), trained.step)
  }

  private func examples(
    _ path: String, _ captions: RetrievalEvaluation.Captions, _ model: (CLIPEmbedder, step: Int)
  ) throws -> RetrievalExamples {
    try RetrievalExamples(
      model.0, step: model.step, dataset: try Dataset.open(path), captionsTaken: captions, count: count, over: ranks)
  }
}

/// Examples of what a model finds. The queries are drawn at random, the same at every call.
struct RetrievalExamples {
  /// The largest number of images that are searched. They are spread evenly over a larger dataset.
  static let most = 1000
  static let shown = 5

  struct Found {
    /// The caption, or the first caption of the image.
    var text: String
    /// The image as a data URI; nil for a caption.
    var image: String?
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
  let images: Int
  let captions: Int
  let datasetImages: Int
  let step: Int
  let captionQueries: [Query]
  let imageQueries: [Query]

  /// Draws `count` queries of each kind. `ranks` is this rank alone: an error here needs no agreement with others.
  init(
    _ embedder: CLIPEmbedder, step: Int, dataset: Dataset, captionsTaken: RetrievalEvaluation.Captions, count: Int,
    over ranks: Communicator
  ) throws {
    precondition(ranks.size == 1)
    let number = min(dataset.count, Self.most)
    let samples = (0..<number).map { $0 * dataset.count / number }
    let (texts, imageOfText) = try dataset.texts(captionsTaken, of: samples)
    let all = RetrievalPairs(images: number, captionImage: imageOfText, captionText: RetrievalPairs.texts(of: texts))
    // Each text once: the nearest five would otherwise often be the same caption five times.
    let (captions, pairs) = (all.firstCaptions.map { texts[$0] }, all.distinct)
    let encoder = BlockEncoder(embedder: embedder, communicator: ranks)
    let images = try encoder.images(of: dataset, samples: samples).own
    let words = try encoder.texts(captions).own
    var thumbnails = Thumbnails(embedder.image)
    var bytes: [UInt8] = []
    func image(_ row: Int) throws -> String {
      try dataset.readImage(samples[row], into: &bytes)
      do { return try thumbnails.uri(bytes) } catch { throw dataset.cannotPrepare(samples[row], error) }
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
    (self.dataset, self.images, self.captions) = (dataset.name, number, captions.count)
    (datasetImages, self.step) = (dataset.count, step)
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
    let (scores, right) = (cosines.array, Set(answers))
    func found(_ row: Int) throws -> Found {
      let shown = try show(row)
      return Found(text: shown.text, image: shown.image, score: Double(scores[row]), isRight: right.contains(row))
    }
    let order = scores.indices.sorted { (-scores[$0], $0) < (-scores[$1], $1) }
    let nearest = order.prefix(shown)
    let answer = order.first { right.contains($0) }
    var ranking = Ranking(queries.rows(row..<row + 1), candidates: candidates.rows, answers: { _, _ in answers })
    ranking.rank(all: candidates)
    return Query(
      text: text, image: image, nearest: try nearest.map(found),
      answer: try answer.flatMap { nearest.contains($0) ? nil : try found($0) },
      place: ranking.places[0].map { $0 + 1 })
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
