/// Retrieval examples on a page, or why there are none.
struct ExamplesSection {
  /// The examples of each corpus.
  var examples: [RetrievalExamples]
  /// What is missing, and how to get it.
  var missing: [String] = []

  /// So much of a text is shown.
  private static let longest = 240

  var markup: Markup {
    "\(missing.map { "<p class=\"note\">\($0)</p>\n" as Markup })\(examples.map(section))"
  }

  private func section(_ examples: RetrievalExamples) -> Markup {
    let among =
      examples.pictures == examples.ofPictures
      ? "\(Chart.step(examples.pictures))" : "\(Chart.step(examples.pictures)) of \(Chart.step(examples.ofPictures))"
    return """
      <h3>\(examples.corpus)</h3>
      <p class="note">The model after step \(Chart.step(examples.step)), among \(among) pictures and \
      \(Chart.step(examples.captions)) different captions. The queries are drawn at random, not chosen. <span class="mark">✓</span> \
      marks right answers; the best of them stands last where it is not among the nearest five. Numbers are cosines.</p>
      <h4 class="kind">The pictures nearest to a caption</h4>
      <div class="examples">\(examples.ofCaptions.map(captionQuery))</div>
      <h4 class="kind">The captions nearest to a picture</h4>
      <div class="examples">\(examples.ofPicturesAsked.map(pictureQuery))</div>

      """
  }

  private func captionQuery(_ query: RetrievalExamples.Query) -> Markup {
    let items = (query.nearest + [query.answer].compactMap { $0 }).map { found in
      """
      <li\(Self.right(found))><div class="frame">\(Self.image(found.picture, Self.short(found.text)))</div>\
      \(Self.mark(found))<span class="score">\(Figures.fixed(found.score, 3))</span></li>
      """ as Markup
    }
    return """
      <article class="example"><p class="query">“<bdi>\(Self.short(query.text))</bdi>”</p>\(verdict(query))\
      <ol class="pictures">\(items)</ol></article>

      """
  }

  private func pictureQuery(_ query: RetrievalExamples.Query) -> Markup {
    func item(_ found: RetrievalExamples.Found, _ note: Markup?) -> Markup {
      """
      <li\(Self.right(found))><span>\(Self.mark(found))</span><span><bdi class="text">\(Self.short(found.text))</bdi>\
      \(note)</span><span class="score">\(Figures.fixed(found.score, 3))</span></li>
      """
    }
    return """
      <article class="example asked"><div><div class="frame">\(Self.image(query.picture, Self.short(query.text)))</div></div>\
      <div>\(verdict(query))<ol class="captions">\(query.nearest.map { item($0, nil) })\
      \(query.answer.map { item($0, place(query)) })</ol></div></article>

      """
  }

  /// Where an answer is that is not among the nearest.
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

  private static func image(_ picture: String?, _ text: String) -> Markup? {
    picture.map { "<img src=\"\($0)\" alt=\"\(text)\" title=\"\(text)\">" }
  }

  private static func short(_ text: String) -> String {
    text.count > longest ? text.prefix(longest - 1) + "…" : text
  }
}
