import Model
import Tensor
import Testing

@Suite struct MetricsTests {
  /// Compares with a sorted list. Coordinates are small integers, so that many scores are equal.
  @Test(arguments: 0..<6) func placesAreThoseOfAStableSort(seed: UInt64) {
    var generator = KeyedRandom(seed: seed, purpose: "places")
    let (n, m, d) = (37, 53, 3)
    let queries = Tensor<Float>(Shape(n, d), (0..<n * d).map { _ in Float(generator.below(3) - 1) })
    let candidates = Tensor<Float>(Shape(m, d), (0..<m * d).map { _ in Float(generator.below(3) - 1) })
    let answers = (0..<n).map { _ in (0..<generator.below(4)).map { _ in generator.below(m) } }
    for block in [0..<n, 5..<6] {
      let places = Ranking.places(of: queries, in: block, among: candidates) { answers[$0] }
      for (query, place) in zip(block, places) {
        let scores = (0..<m).map { c in
          (0..<d).reduce(Float(0)) { $0 + queries[query * d + $1] * candidates[c * d + $1] }
        }
        let order = (0..<m).sorted { (scores[$1], $0) < (scores[$0], $1) }
        let best = order.first { answers[query].contains($0) }
        let expected = best.map { best in
          order.prefix { $0 != best }.count { !answers[query].contains($0) }
        }
        #expect(place == expected)
      }
    }
  }

  @Test func aModelCollapsedToOnePointIsNoBetterThanChance() {
    let points = Tensor<Float>(Shape(50, 4), [Float](repeating: 0.5, count: 200))
    var counts = PlaceCounts(candidates: 50)
    counts.add(Ranking.places(of: points, in: 0..<50, among: points) { [$0] })
    #expect(counts.counts == [Int](repeating: 1, count: 50))
    let broken = Tensor<Float>(Shape(50, 4), [Float](repeating: .nan, count: 200))
    #expect(Ranking.places(of: broken, in: 0..<2, among: points) { [$0] } == [49, 49])
  }

  @Test func blocksCoverAllQueriesOnceAndStaySmall() {
    for (queries, candidates) in [(0, 10), (1, 1), (1_000, 7), (513, 70_000), (10, 40_000_000)] {
      let blocks = Ranking.blocks(queries: queries, candidates: candidates)
      #expect(blocks.flatMap { $0 } == Array(0..<queries))
      #expect(blocks.allSatisfy { $0.count == 1 || $0.count * candidates <= 1 << 24 })
    }
  }

  @Test func countsSumUpToSharesAndMedians() {
    var counts = PlaceCounts(candidates: 20)
    #expect(counts.share(at: 1) == 0)
    #expect(counts.median == 0)
    counts.add([0, 0, nil, 4, 5, 19])
    #expect(counts.queries == 5)
    #expect([1, 5, 10].map(counts.hits(at:)) == [2, 3, 4])
    #expect(counts.share(at: 5) == 0.6)
    #expect(counts.median == 5)
    #expect(counts.mean == 6.6)
    #expect(abs(counts.meanReciprocal - (1 + 1 + 1 / 5.0 + 1 / 6.0 + 1 / 20.0) / 5) < 1e-15)
    #expect(PlaceCounts(candidates: 3).meanReciprocal == 0)
    counts.add([1])
    #expect(counts.median == 3)
  }

  @Test func equalCaptionsAnswerForEachOther() {
    let captions = ["A dog", "a  DOG", "a cat", "it’s a dog", "it's a Dog", "a dog"]
    let texts = RetrievalPairs.texts(of: captions)
    #expect(texts == [0, 0, 1, 2, 2, 0])
    // Image 1 has captions 1 and 2, image 3 has none.
    let pairs = RetrievalPairs(images: 5, captionImage: [0, 1, 1, 2, 2, 4], captionText: texts)
    #expect(pairs.captions(answering: 0) == [0, 1, 5])
    #expect(pairs.captions(answering: 1) == [0, 1, 5, 2])
    #expect(pairs.captions(answering: 2) == [3, 4])
    #expect(pairs.captions(answering: 3) == [])
    #expect(pairs.images(answering: 5) == [0, 1, 4])
    #expect(pairs.images(answering: 2) == [1])
    #expect(pairs.firstCaptions == [0, 2, 3])
    let distinct = pairs.distinct
    #expect(distinct.captions == 3)
    #expect(distinct.captions(answering: 1) == [0, 1])
    #expect(distinct.images(answering: 0) == [0, 1, 4])
  }

  @Test func classEmbeddingsAreMeansOfUnits() {
    let prompts = Tensor<Float>(Shape(4, 2), [2, 0, 0, 3, -1, 0, -5, 0])
    let classes = classEmbeddings(prompts: prompts, perClass: 2)
    let half = Float(0.5).squareRoot()
    let expected = [half, half, -1, 0]
    for (found, expected) in zip(classes.array, expected) { #expect(abs(found - expected) < 1e-6) }
  }
}
