/// counts_i += |{j : s_ij > b_i, or s_ij = b_i and j < t_i}| for scores s [n, m], bounds b [n], ties t [n], 0 to m, and
/// counts [n]: how many candidates of each row come before one with the score b_i, if equal scores keep their order and
/// t_i candidates stand before it. Nothing is counted where s or b is NaN.
@specialized(where S == Float) @specialized(where S == Double)
public func countScoresAhead<S: Scalar>(
  _ scores: Tensor<S>, of bounds: Tensor<S>, ties: Tensor<Int>, into counts: Tensor<Int>
) {
  let (n, m, s, b, t, c) = (
    scores.rows, scores.columns, scores.pointer, bounds.pointer, ties.pointer, counts.pointer
  )
  precondition(
    bounds.count == n && ties.count == n && counts.count == n && m <= Int32.max,
    "scores \(scores.shape) with \(bounds.shape) bounds, \(ties.shape) ties and \(counts.shape) counts")
  precondition((0..<n).allSatisfy { 0...m ~= t[$0] }, "ties are 0 to \(m)")
  Threads.split(n, grain: 16) { _, rows in
    for i in rows {
      let (row, bound, tied) = (s + i * m, b[i], t[i])
      // Integers as wide as the scores let the compiler compare and add eight at a time.
      var ahead: Int32 = 0
      for j in 0..<tied { ahead &+= row[j] >= bound ? 1 : 0 }
      for j in tied..<m { ahead &+= row[j] > bound ? 1 : 0 }
      c[i] += Int(ahead)
    }
  }
}
