import Foundation
import Tensor
import TestSupport
import Testing

@Suite struct AttentionTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let heads: Int
    let headWidth: Int
    let lengths: [Int]
    let causal: Bool
    var width: Int { heads * headWidth }
    var sequences: Sequences { Sequences(lengths: lengths) }
    var pattern: AttentionPattern { AttentionPattern(sequences, heads: heads, causal: causal) }
    var testDescription: String { "\(heads) heads of \(headWidth), \(lengths)\(causal ? ", causal" : "")" }
  }
  static let cases = [true, false].flatMap { causal in
    [
      Case(heads: 1, headWidth: 1, lengths: [1], causal: causal),
      Case(heads: 3, headWidth: 1, lengths: [2, 3], causal: causal),
      Case(heads: 1, headWidth: 5, lengths: [7, 1], causal: causal),
      Case(heads: 2, headWidth: 3, lengths: [1, 0, 5, 2], causal: causal),
      Case(heads: 3, headWidth: 7, lengths: [17, 29], causal: causal),
    ]
  }

  @Test(arguments: cases) func inDouble(_ test: Case) { compare(Double.self, test) }
  @Test(arguments: cases) func inSinglePrecision(_ test: Case) { compare(Float.self, test) }

  private func compare<S: Scalar>(_: S.Type, _ test: Case) {
    let (w, sequences) = (test.width, test.sequences)
    let n = sequences.total
    let qkv = Tensor<S>.random(Shape(n, 3 * w), "qkv", bound: 2)
    let (o, lse) = (Tensor<S>(Shape(n, w)), Tensor<S>(Shape(test.heads, n)))
    attention(.fp32(qkv), test.pattern, into: .fp32(o), logSumExp: lse, tiles: AttentionTiles())
    let plain = Self.plain(qkv.doubles, test)
    // A score is a sum of d products below 4, scaled: its error is that of each logarithm, and moves probabilities by
    // as much in relative terms; sums over the sequence come on top. Values are below 2.
    let score = S.roundoff * Double(test.headWidth + 4) * 4 * Double(test.headWidth).squareRoot()
    let bound = 2 * (2 * score + S.roundoff * Double(2 * sequences.longest + 8))
    let (output, sums) = (Deviation(o.array, from: plain.output), Deviation(lse.array, from: plain.logSumExp))
    #expect(output.absolute <= bound, "output: \(output); bound \(bound)")
    #expect(sums.absolute <= bound * max(sums.size, 1), "log-sum-exp: \(sums); bound \(bound)")
  }

  /// Computes attention row by row and head by head.
  private static func plain(_ x: [Double], _ test: Case) -> (output: [Double], logSumExp: [Double]) {
    let (w, d, sequences) = (test.width, test.headWidth, test.sequences)
    var output = [Double](repeating: 0, count: sequences.total * w)
    var logSumExp = [Double](repeating: 0, count: sequences.total * test.heads)
    for sequence in 0..<sequences.count {
      for head in 0..<test.heads {
        for i in sequences[sequence] {
          let seen = sequences[sequence].filter { !test.causal || $0 <= i }
          let scores = seen.map { j in
            (0..<d).reduce(0.0) {
              $0 + x[i * 3 * w + head * d + $1] * x[j * 3 * w + w + head * d + $1]
            } / Double(d).squareRoot()
          }
          let total = scores.reduce(0) { $0 + exp($1) }
          logSumExp[head * sequences.total + i] = log(total)
          for (j, score) in zip(seen, scores) {
            for c in 0..<d {
              output[i * w + head * d + c] += exp(score) / total * x[j * 3 * w + 2 * w + head * d + c]
            }
          }
        }
      }
    }
    return (output, logSumExp)
  }

  @Test(arguments: cases.filter { $0.width < 20 && $0.lengths != [1] }) func gradients(_ test: Case) {
    let (w, n) = (test.width, test.sequences.total)
    let qkv = Tensor<Double>.random(Shape(n, 3 * w), "qkv")
    let dqkv = Tensor<Double>(qkv.shape)
    let (o, lse, tiles) = (Tensor<Double>(Shape(n, w)), Tensor<Double>(Shape(test.heads, n)), AttentionTiles<Double>())
    let report = GradientCheck([.init("qkv", qkv, gradient: dqkv, accumulates: false)]).run {
      attention(.fp32(qkv), test.pattern, into: .fp32(o), logSumExp: lse, tiles: tiles)
      return o.array
    } backward: { weights in
      attentionBackward(
        .fp32(Tensor(Shape(n, w), weights)), o: .fp32(o), qkv: .fp32(qkv), test.pattern, logSumExp: lse,
        into: .fp32(dqkv), tiles: tiles)
    }
    #expect(report.passed, "\(report)")
  }

  /// Scores may be as large as Float's logarithms: the largest is subtracted before exponentials are taken.
  @Test func largeScores() {
    let qkv = Tensor<Float>(Shape(2, 3), [30, 30, 1, 30, -30, 2])
    let (o, lse) = (Tensor<Float>(Shape(2, 1)), Tensor<Float>(Shape(1, 2)))
    let pattern = AttentionPattern(Sequences(count: 1, length: 2), heads: 1, causal: false)
    attention(.fp32(qkv), pattern, into: .fp32(o), logSumExp: lse, tiles: AttentionTiles())
    #expect(o.array == [1, 1] && lse.array == [900, 900])
  }

  @Test func notANumberIsNotSwallowed() {
    for position in 0..<6 {
      let qkv = Tensor<Float>(Shape(2, 3), [1, 2, 3, 4, 5, 6])
      qkv[position] = .nan
      let (o, lse) = (Tensor<Float>(Shape(2, 1)), Tensor<Float>(Shape(1, 2)))
      let pattern = AttentionPattern(Sequences(count: 1, length: 2), heads: 1, causal: false)
      attention(.fp32(qkv), pattern, into: .fp32(o), logSumExp: lse, tiles: AttentionTiles())
      #expect(o.array.contains { $0.isNaN }, "position \(position)")
    }
  }
}
