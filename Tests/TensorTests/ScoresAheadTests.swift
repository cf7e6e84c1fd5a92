import Tensor
import Testing

/// The count of scores ahead of a bound, compared with a filter.
@Suite struct ScoresAheadTests {
  @Test func countsWhatComesBeforeABound() {
    check(Float.self)
    check(Double.self)
  }

  private func check<S: Scalar>(_: S.Type) {
    var random = KeyedRandom(seed: 1, purpose: "scores ahead")
    for m in [0, 1, 7, 64, 65] {
      let n = 33
      // Small integers make many scores equal.
      let values = (0..<n * m).map { at in at % 29 == 3 ? S.nan : S(random.below(5)) }
      let bounds = (0..<n).map { row in row == 4 ? S.nan : S(row % 6) }
      let ties = (0..<n).map { row in row == 5 ? m : row == 6 ? 0 : random.below(m + 1) }
      let counts = Tensor<Int>(Shape(n), Array(0..<n))
      countScoresAhead(
        Tensor(Shape(n, m), values), of: Tensor(Shape(n), bounds), ties: Tensor(Shape(n), ties), into: counts)
      for row in 0..<n {
        let expected = (0..<m).count { column in
          let score = values[row * m + column]
          return score > bounds[row] || score == bounds[row] && column < ties[row]
        }
        #expect(counts[row] == row + expected)
      }
    }
  }
}
