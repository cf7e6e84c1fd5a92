import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Compares the examples of a report with embeddings that `kinship embed` has written.
@Suite struct ReportExamplesTests {
  let scene: TrainScene

  init() async throws {
    scene = try await TrainScene()
    try await scene.train(
      "shown",
      ["steps=6", "evaluate={evaluations: [{kind: retrieval, dataset: \"\(scene.dataset)\", captions: first}]}"],
      ranks: nil)
  }

  private var run: String { scene.runFolder("shown").path }

  private func report(_ options: [String] = [], ranks: Int? = nil) async throws -> MPIRun {
    try await MPIRun.kinship(["report", run, "--output", scene.folder.path("page.html")] + options, ranks: ranks)
  }

  private func page(_ options: [String] = [], ranks: Int? = nil) async throws -> String {
    let written = try await report(options, ranks: ranks)
    try #require(written.status == 0, "\(written)")
    return try String(contentsOf: URL(filePath: scene.folder.path("page.html")), encoding: .utf8)
  }

  private struct Item: Equatable {
    var text: String
    var score: String
    var isRight: Bool
  }

  /// The items of a list on a page.
  private func items(_ list: Substring) -> [Item] {
    list.matches(
      of: #/<li( class="is-right")?>.*?(?:alt="([^"]*)"|<bdi class="text">([^<]*)<).*?class="score">(-?[0-9.]+)</#
    )
    .map { Item(text: String($0.2 ?? $0.3 ?? ""), score: String($0.4), isRight: $0.1 != nil) }
  }

  /// Finds the first five candidates by falling cosine and the best right one, by sorting all of them.
  private func expected(
    _ query: [Float], _ candidates: [[Float]], _ texts: [String], right: (Int) -> Bool
  ) -> (items: [Item], place: Int) {
    let scores = candidates.map { zip($0, query).reduce(0) { $0 + Double($1.0) * Double($1.1) } }
    let order = scores.indices.sorted { (-scores[$0], $0) < (-scores[$1], $1) }
    let best = order.firstIndex(where: right) ?? 0
    let shown = order.prefix(5) + (best < 5 ? [] : [order[best]])
    return (
      shown.map { Item(text: texts[$0], score: Figures.fixed(scores[$0], 3), isRight: right($0)) }, best + 1
    )
  }

  private func same(_ some: [Item], _ others: [Item]) -> Bool {
    some.count == others.count
      && zip(some, others).allSatisfy { one, other in
        // The printed cosines may be rounded differently.
        one.text == other.text && one.isRight == other.isRight
          && abs((Double(one.score) ?? .nan) - (Double(other.score) ?? .nan)) < 1.5e-3
      }
  }

  @Test func theNearestAreShownAndTheRightOnesMarked() async throws {
    let dataset = try Dataset.open(scene.dataset)
    let titles = (0..<dataset.count).map { dataset.captions($0)[0] }
    // Colours and shapes repeat, so several images are right answers for a caption.
    var seen: Set<String> = []
    let captions = titles.filter { seen.insert($0).inserted }
    try #require(captions.count < titles.count)
    let lines = try scene.folder.write("captions.txt", captions.joined(separator: "\n").utf8)
    let embedded = try await MPIRun.kinship(
      [
        "embed", "--checkpoint", run, "--dataset", scene.dataset, "--captions", lines, "--output",
        scene.folder.path("e.h5"),
      ], ranks: nil)
    try #require(embedded.status == 0, "\(embedded)")
    let file = try HDF5File.open(scene.folder.path("e.h5"))
    func rows(_ name: String) throws -> [[Float]] {
      let all = try file.dataset(name).read(Float.self)
      return stride(from: 0, to: all.count, by: 16).map { Array(all[$0..<$0 + 16]) }
    }
    let (images, texts) = (try rows("image"), try rows("text"))

    let page = try await page(["--examples", "20"])
    let articles = page.matches(of: #/(?s)<article class="example( asked)?">(.*?)<\/article>/#)
    let ofCaptions = articles.filter { $0.1 == nil }.map(\.2)
    let ofImages = articles.filter { $0.1 != nil }.map(\.2)
    #expect(ofCaptions.count == min(20, captions.count) && ofImages.count == 20)
    for article in ofCaptions {
      let text = String(try #require(article.firstMatch(of: #/<bdi>(.*?)<\/bdi>/#)).1)
      let query = try #require(captions.firstIndex(of: text))
      let (items, place) = expected(texts[query], images, titles) { titles[$0] == text }
      #expect(same(self.items(article), items), "\(text): \(self.items(article)), not \(items)")
      #expect(article.contains(place == 1 ? "right at once" : "right at place \(place)<"), "\(text): \(place)")
    }
    for article in ofImages {
      // Several images have this title: the query is one of them.
      let title = String(try #require(article.firstMatch(of: #/alt="([^"]*)"/#)).1)
      let list = article[(article.firstRange(of: "<ol")?.lowerBound ?? article.startIndex)...]
      let found = items(list)
      #expect(
        titles.indices.contains { image in
          titles[image] == title
            && same(found, expected(images[image], texts, captions) { captions[$0] == title }.items)
        }, "\(title): \(found)")
    }
    // The examples are the same on any number of ranks and at every call.
    let articlesOf = { (page: String) in page.matches(of: #/(?s)<article.*?<\/article>/#).map { String($0.output) } }
    #expect(articlesOf(try await self.page(["--examples", "20"], ranks: 3)) == articlesOf(page))
    #expect(articlesOf(try await self.page(["--examples", "0"])) == [])
    #expect(articlesOf(try await self.page()).count == 12)
  }

  /// A page without its dataset, checkpoint or vocabulary is still written, and says what is missing. If the user has
  /// named the dataset, its absence is an error.
  @Test func whatIsMissingIsSaid() async throws {
    let files = FileManager.default
    let dataset = scene.folder.path("moved")
    try files.moveItem(atPath: scene.dataset, toPath: dataset)
    let without = try await page()
    #expect(without.contains("No examples of \(scene.dataset): ") && without.contains("--dataset FOLDER"))
    #expect(try await page(["--dataset", dataset]).contains("class=\"images\""))
    let wrong = try await report(["--dataset", scene.folder.path("nowhere")])
    #expect(wrong.status == 74 || wrong.status == 65, "\(wrong)")

    let words = scene.folder.path("elsewhere.txt.gz")
    try files.moveItem(atPath: scene.vocabulary, toPath: words)
    #expect(try await page().contains("No examples: "))
    #expect(try await page(["--dataset", dataset, "--vocabulary", words]).contains("class=\"images\""))
    try files.removeItem(atPath: "\(run)/checkpoints")
    let pruned = try await page()
    #expect(pruned.contains("No examples: ") && pruned.contains(">loss</h4>"))
    try files.removeItem(atPath: "\(run)/run.yaml")
    #expect(try await page().contains("The run names no dataset for retrieval."))
    for options in [["--examples", "51"], ["--examples", "-1"]] { #expect(try await report(options).status == 64) }
    #expect(try await MPIRun.kinship(["report", run, run, "--examples", "3"], ranks: nil).status == 64)
  }

  @Test func drawnQueriesAreDifferent() {
    #expect(RetrievalExamples.draw(6, of: 3) == [0, 1, 2] && RetrievalExamples.draw(3, of: 0) == [])
    let drawn = RetrievalExamples.draw(6, of: 10_000)
    #expect(
      drawn.count == 6 && Set(drawn).count == 6 && drawn == drawn.sorted()
        && drawn == RetrievalExamples.draw(6, of: 10_000))
  }
}
