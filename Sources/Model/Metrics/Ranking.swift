public import Tensor

/// The place of each query's answer among all candidates, best score first.
///
/// The score of query q and candidate c is ⟨q, c⟩. A query may have several answers; the best one counts, and the
/// others do not stand in its way. Equal scores are in the order of the candidates, so that a model that has
/// collapsed to one point gets no better than a list in that order; a score that is not a number comes last.
public enum Ranking {
  /// At most so many scores are held at once, 64 MiB of them.
  private static let scoreLimit = 1 << 24

  /// Consecutive queries to be ranked together: a function of the sizes and of nothing else. A score may have other
  /// bits in a product of another height, so these blocks, dealt to ranks as a whole, give the same places on any
  /// number of ranks.
  public static func blocks(queries: Int, candidates: Int) -> [Range<Int>] {
    let height = max(1, min(256, scoreLimit / max(1, candidates)))
    return stride(from: 0, to: queries, by: height).map { $0..<min($0 + height, queries) }
  }

  /// Places, 0 for the first, of the answers of one block of queries; nil where a query has no answer.
  ///
  /// - Parameters:
  ///   - queries: [n, d], all of them.
  ///   - block: one of `blocks`.
  ///   - candidates: [m, d].
  ///   - answers: of a query's row, the rows of the candidates that answer it.
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
