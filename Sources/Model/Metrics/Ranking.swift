public import Tensor

/// Ranks all candidates for each query by score, best first, and finds the place of the query's answer among them.
///
/// The score of query q and candidate c is ⟨q, c⟩. A query may have several answers; only the best one counts, and the
/// others are not counted as candidates before it. Candidates with equal scores keep their order, so that a model whose
/// embeddings have collapsed to one point ranks no better than chance. NaN scores come last.
public enum Ranking {
  /// The maximum number of scores held at a time, which take 64 MiB.
  private static let scoreLimit = 1 << 24

  /// Returns the blocks of consecutive queries that are ranked together.
  ///
  /// They depend on nothing but the sizes. The bits of a score may depend on the height of the matrix product, so whole
  /// blocks are distributed over the ranks; places are then the same on any number of ranks.
  public static func blocks(queries: Int, candidates: Int) -> [Range<Int>] {
    let height = max(1, min(256, scoreLimit / max(1, candidates)))
    return stride(from: 0, to: queries, by: height).map { $0..<min($0 + height, queries) }
  }

  /// Returns the places of the answers of one block of queries, 0 for the first place and nil for a query without an
  /// answer.
  ///
  /// - Parameters:
  ///   - queries: the embeddings of all queries, [n, d].
  ///   - block: one of `blocks`.
  ///   - candidates: the embeddings of all candidates, [m, d].
  ///   - answers: returns the rows of the candidates that answer the query in a given row.
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
  public mutating func add(_ places: [Int?]) {
    for case .some(let place) in places { counts[place] += 1 }
  }

  /// The number of queries with an answer.
  public var queries: Int { counts.reduce(0, +) }

  /// Returns the number of queries whose answer is among the first `k` candidates.
  public func hits(at k: Int) -> Int { counts.prefix(k).reduce(0, +) }

  /// Returns the share of queries whose answer is among the first `k` candidates, or 0 if there is no query.
  public func share(at k: Int) -> Double { queries == 0 ? 0 : Double(hits(at: k)) / Double(queries) }

  /// The median place, counted from 1. For an even number of queries it is the mean of the two in the middle, rounded
  /// down; without queries it is 0.
  public var median: Int {
    let queries = queries
    if queries == 0 { return 0 }
    return (place(ofQuery: (queries - 1) / 2) + place(ofQuery: queries / 2)) / 2 + 1
  }

  /// The mean place, counted from 1; 0 without queries.
  public var mean: Double {
    let sum = counts.enumerated().reduce(0) { $0 + $1.offset * $1.element }
    return queries == 0 ? 0 : Double(sum) / Double(queries) + 1
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
