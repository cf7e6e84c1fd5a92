public import Tensor

/// Ranks all candidates c for each query q by their scores ⟨q, c⟩, best first, and finds the place of its answer.
///
/// Only the best of a query's answers counts, and the others are no candidates before it. Candidates with equal scores
/// keep their order, so that collapsed embeddings rank no better than chance. NaN scores come last.
public enum Ranking {
  /// The maximum number of scores held at a time, which take 64 MiB.
  private static let scoreLimit = 1 << 24

  /// Returns the blocks of consecutive queries that are ranked together. The bits of a score may depend on the height
  /// of the matrix product, so whole blocks are distributed over the ranks; places are then the same on any number.
  public static func blocks(queries: Int, candidates: Int) -> [Range<Int>] {
    let height = max(1, min(256, scoreLimit / max(1, candidates)))
    return stride(from: 0, to: queries, by: height).map { $0..<min($0 + height, queries) }
  }

  /// Returns the places of the answers of one of `blocks`, 0 for the first and nil for a query without an answer, given
  /// all queries [n, d] and candidates [m, d]. `answers` returns the rows that answer the query of a row.
  public static func places(
    of queries: Tensor<Float>, in block: Range<Int>, among candidates: Tensor<Float>, answers: (Int) -> [Int]
  ) -> [Int?] {
    precondition(queries.columns == candidates.columns, "queries of \(queries.shape), \(candidates.shape) candidates")
    let scores = Tensor<Float>(Shape(block.count, candidates.rows))
    matmul(queries.rows(block), candidates, into: scores, transposeB: true)
    var isAnswer = [Bool](repeating: false, count: candidates.rows)
    return block.enumerated().map { row, query in
      let answers = answers(query)
      guard !answers.isEmpty else { return nil }
      for answer in answers { isAnswer[answer] = true }
      defer { for answer in answers { isAnswer[answer] = false } }
      return place(scores.rows(row..<row + 1).array, isAnswer)
    }
  }

  private static func place(_ scores: [Float], _ isAnswer: [Bool]) -> Int {
    var best = scores.count
    for (at, score) in scores.enumerated() where isAnswer[at] && !score.isNaN {
      if best == scores.count || score > scores[best] { best = at }
    }
    var place = 0
    for (at, score) in scores.enumerated() where !isAnswer[at] {
      if best == scores.count || score > scores[best] || (score == scores[best] && at < best) { place += 1 }
    }
    return place
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
