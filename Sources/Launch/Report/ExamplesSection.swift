import Dist
import Model

/// Retrieval examples on a page, or the reasons why there are none.
struct ExamplesSection {
  /// The examples of each dataset.
  var examples: [RetrievalExamples]
  /// Messages about what is missing, and how to get it.
  var missing: [String] = []

  /// The largest number of characters shown of a text.
  private static let longest = 240

  var markup: Markup {
    "\(missing.map { "<p class=\"note\">\($0)</p>\n" as Markup })\(examples.map(section))"
  }

  private func section(_ examples: RetrievalExamples) -> Markup {
    let among =
      examples.images == examples.datasetImages
      ? "\(Chart.step(examples.images))" : "\(Chart.step(examples.images)) of \(Chart.step(examples.datasetImages))"
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
    return """
      <article class="example asked"><div><div class="frame">\
      \(Self.image(query.image, Self.short(query.text)))</div></div>\
      <div>\(verdict(query))<ol class="captions">\(query.nearest.map { item($0, nil) })\
      \(query.answer.map { item($0, place(query)) })</ol></div></article>

      """
  }

  /// The place of an answer that is not among the nearest.
  private func place(_ query: RetrievalExamples.Query) -> Markup? {
    query.place.map { " <span class=\"score\">place \(Chart.step($0))</span>" }
  }

  private func verdict(_ query: RetrievalExamples.Query) -> Markup {
    let text =
      switch query.place {
      case 1: "right at once"
      case .some(let place): "right at place \(Chart.step(place))"
      case nil: "no answer"
      }
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
  /// The user's dataset. An error in it ends the command, whereas a page does without the examples of the run's own
  /// datasets.
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
    let tokenizer = BytePairTokenizer(
      vocabulary: try trained.vocabulary(at: vocabulary), context: trained.model.config.text.contextLength)
    return (CLIPEmbedder(trained.model, image: trained.saved.image, tokenizer: tokenizer), trained.step)
  }

  private func examples(
    _ path: String, _ captions: RetrievalEvaluation.Captions, _ model: (CLIPEmbedder, step: Int)
  ) throws -> RetrievalExamples {
    try RetrievalExamples(
      model.0, step: model.step, dataset: try Dataset.open(path), captionsTaken: captions, count: count, over: ranks)
  }
}
