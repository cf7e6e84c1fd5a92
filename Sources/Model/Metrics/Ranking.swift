public import Tensor

// n queries of a rank and m candidates of all ranks, whose embeddings are rows of d numbers.

/// Ranks all candidates c for each query q by their scores ⟨q, c⟩, best first, and finds the place of its answer.
///
/// Only the best of a query's answers counts, and the others are no candidates before it. Candidates with equal scores
/// keep their order, so that collapsed embeddings rank no better than chance. NaN scores come last.
///
/// Candidates come in tiles, so that no rank holds all of them. The best answer must be known before the candidates
/// ahead of it are counted: the tiles come twice, in rising order, first to `findAnswers` and then to `countAhead`, or
/// once to `rank` if there is only one.
public struct Ranking {
  /// Returns the candidates that answer a query, among those in a range: all of them, each once, in any order.
  public typealias Answers = (_ query: Int, _ candidates: Range<Int>) -> [Int]

  /// The number of queries that are ranked together.
  public static let height = 256
  /// The number of candidates in a tile. The scores of a block of queries then take 32 MiB.
  public static let tile = 1 << 15
  /// The bytes that a query takes beside its embedding.
  public static let bytesOfQuery = 28

  /// This rank's queries [n, d], the first of which has the number `first`.
  private let queries: Tensor<Float>
  private let first: Int
  private let candidates: Int
  private let answers: Answers
  /// The score of each query's best answer so far, NaN without one, and that answer.
  private let best: Tensor<Float>
  private var bestAt: [Int]
  /// The number of each query's answers, and of the candidates before the best of them.
  private var answerCounts: [Int]
  private let ahead: Tensor<Int>
  private let scores = Buffer<Float>()

  /// Ranks `candidates` candidates for queries [n, d], the first of which has the number `first`. They must be whole
  /// `blocks`: the bits of a score may depend on the height of the matrix product, and places are then the same for any
  /// distribution of the blocks over ranks.
  public init(_ queries: Tensor<Float>, first: Int = 0, candidates: Int, answers: @escaping Answers) {
    (self.queries, self.first, self.candidates, self.answers) = (queries, first, candidates, answers)
    let n = queries.rows
    best = Tensor(Shape(n), [Float](repeating: .nan, count: n))
    bestAt = [Int](repeating: candidates, count: n)
    answerCounts = [Int](repeating: 0, count: n)
    ahead = Tensor(Shape(n))
  }

  /// Returns the blocks of consecutive queries that are ranked together.
  public static func blocks(queries: Int) -> [Range<Int>] { pieces(queries, of: height) }

  /// Returns the tiles of consecutive candidates, at most `size` each. They do not depend on the ranks either, because
  /// the bits of a score may depend on the width of the matrix product, too.
  public static func tiles(candidates: Int, size: Int = tile) -> [Range<Int>] { pieces(candidates, of: size) }

  private static func pieces(_ count: Int, of size: Int) -> [Range<Int>] {
    stride(from: 0, to: count, by: size).map { $0..<min($0 + size, count) }
  }

  /// Finds the best answers among the candidates `range`, whose embeddings are `tile` [range, d]. Only blocks of
  /// queries with an answer among them compute scores.
  public mutating func findAnswers(in range: Range<Int>, _ tile: Tensor<Float>) {
    for block in Self.blocks(queries: queries.rows) { findAnswers(of: block, in: range, tile) }
  }

  /// Counts the candidates `range` that come before the best answers, all of which must have been found.
  public mutating func countAhead(in range: Range<Int>, _ tile: Tensor<Float>) {
    for block in Self.blocks(queries: queries.rows) where hasAnswer(block) {
      countAhead(of: block, in: range, scores(of: block, tile))
    }
  }

  /// Does both with all candidates [m, d], whose scores are then computed once.
  public mutating func rank(all tile: Tensor<Float>) {
    let range = 0..<candidates
    for block in Self.blocks(queries: queries.rows) {
      guard let scores = findAnswers(of: block, in: range, tile), hasAnswer(block) else { continue }
      countAhead(of: block, in: range, scores)
    }
  }

  /// The places of the queries' answers, 0 for the first and nil for a query without an answer.
  public var places: [Int?] {
    bestAt.indices.map { query in
      guard answerCounts[query] > 0 else { return nil }
      return best[query].isNaN ? candidates - answerCounts[query] : ahead[query]
    }
  }

  private func hasAnswer(_ block: Range<Int>) -> Bool { block.contains { !best[$0].isNaN } }

  private func scores(of block: Range<Int>, _ tile: Tensor<Float>) -> Tensor<Float> {
    precondition(queries.columns == tile.columns, "queries of \(queries.shape), candidates of \(tile.shape)")
    let scores = scores.tensor(Shape(block.count, tile.rows))
    matmul(queries.rows(block), tile, into: scores, transposeB: true)
    return scores
  }

  /// Returns the block's scores of the tile, or nil if they were not needed.
  @discardableResult
  private mutating func findAnswers(
    of block: Range<Int>, in range: Range<Int>, _ tile: Tensor<Float>
  ) -> Tensor<Float>? {
    precondition(tile.rows == range.count, "\(tile.shape) for the candidates \(range)")
    let found = block.map { answers(first + $0, range) }
    guard found.contains(where: { !$0.isEmpty }) else { return nil }
    let scores = scores(of: block, tile)
    for (row, (query, answers)) in zip(block, found).enumerated() {
      answerCounts[query] += answers.count
      for answer in answers {
        let score = scores[row * range.count + answer - range.lowerBound]
        let isFirst = best[query].isNaN
        guard !score.isNaN, isFirst || (score, bestAt[query]) > (best[query], answer) else { continue }
        best[query] = score
        bestAt[query] = answer
      }
    }
    return scores
  }

  private func countAhead(of block: Range<Int>, in range: Range<Int>, _ scores: Tensor<Float>) {
    let ties = block.map { min(max(bestAt[$0] - range.lowerBound, 0), range.count) }
    // No answer is counted: none is better than the best, and of equal ones the first is the best.
    countScoresAhead(
      scores, of: best.slice(block), ties: Tensor(Shape(block.count), ties), into: ahead.slice(block))
  }
}

/// The number of queries whose answer is at each place. These are integers, so that sums over ranks are exact.
public struct PlaceCounts: Equatable, Sendable {
  /// The number of queries by place, 0 for the first.
  public private(set) var counts: [Int]

  public init(candidates: Int) { counts = [Int](repeating: 0, count: candidates) }
  /// Creates counts from those that were summed over ranks.
  public init(counts: [Int]) { self.counts = counts }
  /// Adds the places of some queries. A query without an answer, nil, is not counted.
  public mutating func add(_ places: [Int?]) { for case .some(let place) in places { counts[place] += 1 } }
  /// The number of queries with an answer.
  public var queries: Int { counts.reduce(0, +) }
  /// Returns the number of queries whose answer is among the first `k` candidates.
  public func hits(at k: Int) -> Int { counts.prefix(k).reduce(0, +) }
  /// Returns their share, or 0 if there is no query.
  public func share(at k: Int) -> Double { queries == 0 ? 0 : Double(hits(at: k)) / Double(queries) }

  /// The median place, counted from 1: the mean of the two in the middle, rounded down; 0 without queries.
  public var median: Int {
    let queries = queries
    return queries == 0 ? 0 : (place(ofQuery: (queries - 1) / 2) + place(ofQuery: queries / 2)) / 2 + 1
  }

  /// The mean place, counted from 1; 0 without queries.
  public var mean: Double {
    let sum = counts.enumerated().reduce(0) { $0 + $1.offset * $1.element }
    return queries == 0 ? 0 : Double(sum) / Double(queries) + 1
  }

  /// The mean reciprocal rank: the mean of 1/place, with places counted from 1; 0 without queries.
  public var meanReciprocal: Double {
    let sum = counts.enumerated().reduce(0.0) { $0 + Double($1.element) / Double($1.offset + 1) }
    return queries == 0 ? 0 : sum / Double(queries)
  }

  /// Returns the place of query number `index` in the order of their places.
  private func place(ofQuery index: Int) -> Int {
    var passed = 0
    return counts.firstIndex {
      passed += $0
      return passed > index
    } ?? 0
  }
}
