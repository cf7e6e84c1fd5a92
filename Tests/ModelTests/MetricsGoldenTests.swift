import Dist
import Foundation
import Model
import Tensor
import TestSupport
import Testing

/// Compares the metrics of fixed embeddings with the results of plain formulas in double precision.
@Suite struct MetricsGoldenTests {
  let file: SafetensorsFile
  let expected: [String: [String: Double]]

  init() throws {
    file = try SafetensorsFile(Fixture.golden.appending(path: "metrics/metrics.safetensors"))
    let data = try Data(contentsOf: Fixture.golden.appending(path: "metrics/expected.json"))
    expected = try JSONDecoder().decode([String: [String: Figure]].self, from: data)
      .mapValues { $0.compactMapValues(\.value) }
  }

  /// A JSON value: a number, or nil for anything else.
  struct Figure: Decodable {
    let value: Double?

    init(from decoder: any Decoder) throws { value = try? decoder.singleValueContainer().decode(Double.self) }
  }

  /// Returns the k of all figures named `prefix`, k, `suffix`, in rising order.
  func depths(of figures: [String: Double], _ prefix: String, _ suffix: String = "") throws -> [Int] {
    let found = figures.keys.filter { $0.hasPrefix(prefix) && $0.hasSuffix(suffix) }
      .compactMap { Int($0.dropFirst(prefix.count).dropLast(suffix.count)) }
    return try Fixture.required(found.sorted(), "figures \(prefix)k\(suffix) in metrics/expected.json")
  }

  func places(_ queries: Tensor<Float>, _ candidates: Tensor<Float>, _ answers: @escaping (Int) -> [Int]) -> [Int?] {
    var ranking = Ranking(queries, candidates: candidates.rows) { query, _ in answers(query) }
    ranking.rank(all: candidates)
    return ranking.places
  }

  @Test func retrievalIsExact() throws {
    let sets = file.names.filter { $0.hasSuffix(".caption_image") }.map { String($0.prefix { $0 != "." }) }
    let described = expected.filter { $0.value.keys.contains { $0.hasPrefix("i2t_R@") } }
    #expect(Set(described.keys) == Set(sets), "the sets of expected.json are not those of metrics.safetensors")
    for set in try Fixture.required(sets, "retrieval sets in metrics/metrics.safetensors") {
      let images = try file.tensor("\(set).image_embeddings", as: Float.self)
      let texts = try file.tensor("\(set).text_embeddings", as: Float.self)
      let captionImage = try file.integers("\(set).caption_image")
      let pairs = RetrievalPairs(
        images: images.rows, captionImage: captionImage, captionText: Array(captionImage.indices))
      let toText = places(images, texts) { pairs.captions(answering: $0) }
      let toImage = places(texts, images) { pairs.images(answering: $0) }
      #expect(toText == (try file.integers("\(set).i2t_rank")), "\(set)")
      #expect(toImage == (try file.integers("\(set).t2i_rank")), "\(set)")

      let figures = try #require(expected[set])
      for (name, places, candidates) in [("i2t", toText, texts.rows), ("t2i", toImage, images.rows)] {
        var counts = PlaceCounts(candidates: candidates)
        counts.add(places)
        for k in try depths(of: figures, "\(name)_R@") {
          #expect(counts.share(at: k) == figures["\(name)_R@\(k)"], "\(set) \(name) R@\(k)")
        }
      }
    }
  }

  @Test func zeroShotIsExact() throws {
    let images = try file.tensor("zs.image_embeddings", as: Float.self)
    let labels = try file.integers("zs.labels")
    let prompts = try file.tensor("zs.prompt_embeddings", as: Float.self)
    let given = try file.tensor("zs.class_embeddings", as: Float.self)
    let perClass = prompts.shape[1]
    let classes = classEmbeddings(
      prompts: prompts.reshaped(Shape(prompts.shape[0] * perClass, given.columns)), perClass: perClass)
    #expect(classes.shape == given.shape)
    for (found, expected) in zip(classes.array, given.array) { #expect(abs(found - expected) < 1e-6) }

    for classes in [classes, given] {
      try check("zero_shot", images, labels, classes)
      let columns = try file.integers("zs.subset")
      let rows = try file.integers("zs.subset_rows")
      try check(
        "zero_shot_subset", picking(images, rows), try file.integers("zs.subset_labels"), picking(classes, columns))
      let unrestricted = places(picking(images, rows), classes) { [labels[rows[$0]]] }
      #expect(
        Double(unrestricted.count { $0 == 0 }) == expected["zero_shot_subset"]?["top1_correct_without_restriction"])
    }
  }

  func check(_ name: String, _ images: Tensor<Float>, _ labels: [Int], _ classes: Tensor<Float>) throws {
    let figures = try #require(expected[name])
    var counts = PlaceCounts(candidates: classes.rows)
    counts.add(places(images, classes) { [labels[$0]] })
    #expect(Double(counts.queries) == figures["images"])
    for k in try depths(of: figures, "top", "_correct") {
      #expect(Double(counts.hits(at: k)) == figures["top\(k)_correct"], "\(name) top-\(k)")
      #expect(counts.share(at: k) == figures["top\(k)"], "\(name) top-\(k)")
    }
  }

  func picking(_ matrix: Tensor<Float>, _ rows: [Int]) -> Tensor<Float> {
    Tensor(Shape(rows.count, matrix.columns), rows.flatMap { matrix.rows($0..<$0 + 1).array })
  }
}
