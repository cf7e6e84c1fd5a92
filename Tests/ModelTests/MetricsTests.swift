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
    // One tile, tiles of which the last is smaller, and a tile for each candidate; all queries, and one of them.
    for (block, size) in [(0..<n, m), (5..<6, m), (0..<n, 20), (3..<n, 1)] {
      let places = places(of: queries.rows(block), first: block.lowerBound, among: candidates, tile: size) {
        Set(answers[$0])
      }
      #expect(places.count == block.count)
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

  /// Ranks candidates that come in tiles of `size`.
  private func places(
    of queries: Tensor<Float>, first: Int = 0, among candidates: Tensor<Float>, tile size: Int,
    answers: (Int) -> Set<Int>
  ) -> [Int?] {
    let all = (0..<queries.rows).map { answers(first + $0) }
    var ranking = Ranking(queries, first: first, candidates: candidates.rows) { query, range in
      all[query - first].filter { range.contains($0) }
    }
    let tiles = Ranking.tiles(candidates: candidates.rows, size: size)
    if tiles.count == 1 {
      ranking.rank(all: candidates)
    } else {
      for tile in tiles { ranking.findAnswers(in: tile, candidates.rows(tile)) }
      for tile in tiles { ranking.countAhead(in: tile, candidates.rows(tile)) }
    }
    return ranking.places
  }

  @Test(arguments: [50, 7]) func aModelCollapsedToOnePointIsNoBetterThanChance(tile: Int) {
    let points = Tensor<Float>(Shape(50, 4), [Float](repeating: 0.5, count: 200))
    var counts = PlaceCounts(candidates: 50)
    counts.add(places(of: points, among: points, tile: tile) { [$0] })
    #expect(counts.counts == [Int](repeating: 1, count: 50))
    let broken = Tensor<Float>(Shape(50, 4), [Float](repeating: .nan, count: 200))
    #expect(places(of: broken.rows(0..<2), among: points, tile: tile) { [$0] } == [49, 49])
    #expect(places(of: broken.rows(0..<2), among: points, tile: tile) { [$0, $0 + 9] } == [48, 48])
    // Among finite scores a NaN neither counts nor is an answer.
    for at in 4..<8 { points[at] = .nan }
    #expect(
      places(of: points.rows(2..<4), among: points, tile: tile) { $0 == 0 ? [1, 2] : [1] } == [1, 49])
  }

  @Test func blocksAndTilesCoverAllOnceAndStaySmall() {
    for count in [0, 1, 256, 257, 70_000] {
      let (blocks, tiles) = (Ranking.blocks(queries: count), Ranking.tiles(candidates: count))
      #expect(blocks.flatMap { $0 } == Array(0..<count) && tiles.flatMap { $0 } == Array(0..<count))
      #expect(blocks.allSatisfy { $0.count <= 256 } && tiles.allSatisfy { $0.count <= 32_768 })
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
    #expect(pairs.captions(answering: 1, in: 1..<3) == [1, 2] && pairs.captions(answering: 0, in: 2..<5) == [])
    #expect(pairs.images(answering: 5, in: 1..<4) == [1] && pairs.images(answering: 5, in: 0..<5) == [0, 1, 4])
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
