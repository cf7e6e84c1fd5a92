import Tensor
import TestSupport
import Testing

/// Attention of one row of each sequence, compared with that of all rows and with differences.
@Suite struct RowAttentionTests {
  /// The cases in which every sequence has a row.
  static let cases = AttentionTests.cases.filter { !$0.lengths.contains(0) }

  /// Returns a row of each sequence: the first for 0, the last for 1.
  static func rows(_ sequences: Sequences, at place: Double) -> [Int] {
    (0..<sequences.count).map { sequences.firsts[$0] + Int(place * Double(sequences[$0].count - 1)) }
  }

  /// Returns the columns of Q of some rows, and those of K and V of all.
  private func split<S: Scalar>(_ qkv: Tensor<S>, _ rows: [Int]) -> (q: Tensor<S>, kv: Tensor<S>) {
    let w = qkv.columns / 3
    let few = Tensor<S>(Shape(rows.count, 3 * w))
    let (q, kv) = (Tensor<S>(Shape(rows.count, w)), Tensor<S>(Shape(qkv.rows, 2 * w)))
    gatherRows(qkv, rows, into: few)
    gatherColumns(few, Array(0..<w), into: q)
    gatherColumns(qkv, Array(w..<3 * w), into: kv)
    return (q, kv)
  }

  @Test(arguments: cases, [0, 0.5, 1]) func inDouble(_ test: AttentionTests.Case, place: Double) {
    compare(Double.self, test, place)
  }
  @Test(arguments: cases, [0, 0.5, 1]) func inSinglePrecision(_ test: AttentionTests.Case, place: Double) {
    compare(Float.self, test, place)
  }

  private func compare<S: Scalar>(_: S.Type, _ test: AttentionTests.Case, _ place: Double) {
    let (w, sequences, tiles) = (test.width, test.sequences, AttentionTiles<S>())
    let (n, rows) = (sequences.total, Self.rows(test.sequences, at: place))
    let b = rows.count
    let qkv = Tensor<S>.random(Shape(n, 3 * w), "qkv")
    let slope = Tensor<S>.random(Shape(b, w), "slope")
    let (o, lse) = (Tensor<S>(Shape(n, w)), Tensor<S>(Shape(test.heads, n)))
    let (dO, dqkv) = (Tensor<S>(o.shape), Tensor<S>(qkv.shape))
    attention(.fp32(qkv), test.pattern, into: .fp32(o), logSumExp: lse, tiles: tiles)
    scatterRows(slope, rows, into: dO)
    attentionBackward(
      .fp32(dO), o: .fp32(o), qkv: .fp32(qkv), test.pattern, logSumExp: lse, into: .fp32(dqkv), tiles: tiles)

    let (q, kv) = split(qkv, rows)
    let (out, sums) = (Tensor<S>(Shape(b, w)), Tensor<S>(Shape(test.heads, b)))
    let (dq, dkv) = (Tensor<S>(q.shape), Tensor<S>(kv.shape))
    fill(dq, .nan)
    fill(dkv, .nan)
    rowAttention(
      .fp32(q), kv: .fp32(kv), test.pattern, rows: rows, into: .fp32(out), logSumExp: sums, tiles: tiles)
    rowAttentionBackward(
      .fp32(slope), o: .fp32(out), q: .fp32(q), kv: .fp32(kv), test.pattern, rows: rows, logSumExp: sums,
      into: (.fp32(dq), .fp32(dkv)), tiles: tiles)

    let (expected, gradients) = (Tensor<S>(out.shape), split(dqkv, rows))
    gatherRows(o, rows, into: expected)
    let expectedSums = (0..<test.heads).flatMap { head in rows.map { Double(lse[head * n + $0]) } }
    // All numbers are below 1. A score is a sum of d products, scaled, and its error is that of each logarithm; it
    // moves probabilities by as much in relative terms, and sums over the sequence come on top. Both sides may be off.
    let (u, d, length) = (S.roundoff, Double(test.headWidth), Double(sequences.longest))
    let probability = 2 * u * (d + 4) * d.squareRoot() + u * (2 * length + 8)
    // dS = P (dP − D) / √d, where dP and D are sums of d products; dq sums it over the sequence.
    let slopes = 2 * d.squareRoot() * (probability + u * (2 * d + length))
    for (name, found, expected, bound) in [
      ("output", out.array, expected.doubles, 2 * probability), ("sums", sums.array, expectedSums, 8 * probability),
      ("dq", dq.array, gradients.q.doubles, 2 * slopes), ("dkv", dkv.array, gradients.kv.doubles, 2 * slopes),
    ] {
      let deviation = Deviation(found, from: expected)
      #expect(deviation.absolute <= bound, "\(name): \(deviation); bound \(bound)")
    }
  }

  /// The first row of a causal sequence sees itself alone, so that no query matters.
  @Test(arguments: cases.filter { $0.width < 20 && $0.lengths != [1] }, [0.5, 1])
  func gradients(_ test: AttentionTests.Case, place: Double) {
    let (w, rows, tiles) = (test.width, Self.rows(test.sequences, at: place), AttentionTiles<Double>())
    let q = Tensor<Double>.random(Shape(rows.count, w), "q")
    let kv = Tensor<Double>.random(Shape(test.sequences.total, 2 * w), "kv")
    let (dq, dkv) = (Tensor<Double>(q.shape), Tensor<Double>(kv.shape))
    let (o, lse) = (Tensor<Double>(q.shape), Tensor<Double>(Shape(test.heads, rows.count)))
    let report = GradientCheck([
      .init("q", q, gradient: dq, accumulates: false), .init("kv", kv, gradient: dkv, accumulates: false),
    ]).run {
      rowAttention(.fp32(q), kv: .fp32(kv), test.pattern, rows: rows, into: .fp32(o), logSumExp: lse, tiles: tiles)
      return o.array
    } backward: { weights in
      rowAttentionBackward(
        .fp32(Tensor(q.shape, weights)), o: .fp32(o), q: .fp32(q), kv: .fp32(kv), test.pattern, rows: rows,
        logSumExp: lse, into: (.fp32(dq), .fp32(dkv)), tiles: tiles)
    }
    #expect(report.passed, "\(report)")
  }
}
