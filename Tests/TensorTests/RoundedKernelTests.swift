import TestSupport
import Testing

@testable import Tensor

/// Kernels on bf16 matrices give the results of fp32 matrices with the same numbers, rounded.
@Suite struct RoundedKernelTests {
  /// Returns random numbers that bfloat16 represents exactly.
  private static func coarse<S: Scalar>(_ shape: Shape, _ name: String, bound: Double = 1) -> Tensor<S> {
    let x = Tensor<S>.random(shape, name, bound: bound)
    let buffer = BFloat16Buffer()
    let rounded = buffer.view(shape)
    round(x, into: rounded)
    for (index, value) in rounded.floats.enumerated() { x[index] = S(value) }
    return x
  }

  private static func rounded<S: Scalar>(_ x: Tensor<S>) -> MatrixOperand<S> { BFloat16Buffer().operand(x, .bf16) }

  private static func array<S: Scalar>(_ x: MatrixOperand<S>) -> [Float] {
    switch x {
    case .fp32(let x):
      let view = BFloat16Buffer().view(x.shape)
      round(x, into: view)
      return view.floats
    case .bf16(let x): return x.floats
    }
  }

  private static let shapes = [Shape(1, 1), Shape(3, 7), Shape(5, 64), Shape(37, 129)]

  @Test(arguments: shapes) func inDouble(shape: Shape) { passes(Double.self, shape) }
  @Test(arguments: shapes) func inSinglePrecision(shape: Shape) { passes(Float.self, shape) }

  private func passes<S: Scalar>(_: S.Type, _ shape: Shape) {
    let (n, w) = (shape[0], shape[1])
    let x = Self.coarse(shape, "x", bound: 4) as Tensor<S>
    let (weight, bias) = (Tensor<S>.random(Shape(w), "weight"), Tensor<S>.random(Shape(w), "bias"))

    let results = ComputePrecision.allCases.map { precision -> [[Float]] in
      let (y, h) = (
        MatrixOperandBuffer<S>().operand(shape, precision), BFloat16Buffer().operand(Tensor(shape, x.array), precision)
      )
      layerNorm(x, weight: weight, bias: bias, into: y, statistics: (Tensor(Shape(n)), Tensor(Shape(n))))
      var found = [Self.array(y)]
      for activation in [Activation.gelu, .quickGELU] {
        let h: MatrixOperand<S> = BFloat16Buffer().operand(Tensor(shape, x.array), precision)
        biasActivation(h, bias: bias, activation, into: y)
        found += [Self.array(h), Self.array(y)]
      }
      let derivative: MatrixOperand<S> = BFloat16Buffer().operand(Self.coarse(shape, "derivative"), precision)
      let sums = Tensor<S>(Shape(w), bias.array)
      biasActivationBackward(h, derivative: derivative, dbias: sums)
      found += [Self.array(h), Self.array(.fp32(sums))]
      addColumnSums(of: derivative, to: sums)
      return found + [Self.array(.fp32(sums))]
    }
    #expect(results[0] == results[1])

    let images = Tensor<S>.random(Shape(2, 3, 7, 5), "images")
    let cut = ComputePrecision.allCases.map { precision in
      let rows = MatrixOperandBuffer<S>().operand(Shape(2 * 3 * 2, 12), precision)
      patches(of: images, size: 2, into: rows)
      return Self.array(rows)
    }
    #expect(cut[0] == cut[1])
  }

  @Test(arguments: AttentionTests.cases) func attentionInDouble(_ test: AttentionTests.Case) {
    attend(Double.self, test)
  }
  @Test(arguments: AttentionTests.cases) func attentionInSinglePrecision(_ test: AttentionTests.Case) {
    attend(Float.self, test)
  }

  private func attend<S: Scalar>(_: S.Type, _ test: AttentionTests.Case) {
    let (n, w, sequences) = (test.sequences.total, test.width, test.sequences)
    let qkv = Self.coarse(Shape(n, 3 * w), "qkv") as Tensor<S>
    let slope = Self.coarse(Shape(n, w), "slope") as Tensor<S>
    let results = ComputePrecision.allCases.map { precision -> (o: [Double], lse: [Double], dqkv: [Double]) in
      let (o, dqkv) = (MatrixOperandBuffer<S>(), MatrixOperandBuffer<S>())
      let (tiles, lse) = (AttentionTiles<S>(), Tensor<S>(Shape(test.heads, n)))
      let (out, gradient) = (o.operand(Shape(n, w), precision), dqkv.operand(qkv.shape, precision))
      let input: MatrixOperand<S> = BFloat16Buffer().operand(qkv, precision)
      attention(input, test.pattern, into: out, logSumExp: lse, tiles: tiles)
      attentionBackward(
        BFloat16Buffer().operand(slope, precision), o: out, qkv: input, test.pattern, logSumExp: lse, into: gradient,
        tiles: tiles)
      func numbers(_ x: MatrixOperand<S>) -> [Double] {
        switch x {
        case .fp32(let x): x.doubles
        case .bf16(let x): x.floats.map { Double($0) }
        }
      }
      return (numbers(out), lse.doubles, numbers(gradient))
    }
    let (exact, rounded) = (results[0], results[1])
    // A rounding is off by 2⁻⁹ of its number. Outputs are averages of values below 1: probabilities and the result
    // are rounded once each.
    let unit = 1.0 / 512
    #expect(Deviation(rounded.o, from: exact.o).absolute <= 2.1 * unit)
    // Scores are sums of products that no rounding touches.
    #expect(Deviation(rounded.lse, from: exact.lse).absolute <= 64 * S.roundoff * 8)
    // dV: a sum of probabilities, each rounded, times slopes below 1, and the result; a column of probabilities adds up
    // to at most L. dS = P (dP − D)/√d, whose D holds the rounded output: |dP|, |D| ≤ d, and rounding P, D's outputs
    // and dS itself moves each by 3 · 2⁻⁹ of 2d/√d; dQ and dK add up at most L of them times numbers below 1.
    let (length, d) = (Double(sequences.longest), Double(test.headWidth))
    let bound = unit * (2.1 * length + 3.1 * 2 * d.squareRoot() * length)
    #expect(Deviation(rounded.dqkv, from: exact.dqkv).absolute <= bound)
    let size = exact.dqkv.map { $0 * $0 }.reduce(0, +).squareRoot()
    let off = zip(rounded.dqkv, exact.dqkv).map { ($0 - $1) * ($0 - $1) }.reduce(0, +).squareRoot()
    // The worst case is loose; on average the gradients keep two digits.
    #expect(off <= 0.02 * size + 1e-12, "\(off) of \(size)")
  }

  @Test(arguments: RowAttentionTests.cases, [0, 0.5, 1])
  func attentionOfOneRow(_ test: AttentionTests.Case, place: Double) {
    let (w, rows) = (test.width, RowAttentionTests.rows(test.sequences, at: place))
    let shape = Shape(rows.count, w)
    let (q, slope) = (Self.coarse(shape, "q") as Tensor<Float>, Self.coarse(shape, "slope") as Tensor<Float>)
    let kv = Self.coarse(Shape(test.sequences.total, 2 * w), "kv") as Tensor<Float>
    let results = ComputePrecision.allCases.map { precision -> [[Double]] in
      let (o, dq, dkv) = (
        MatrixOperandBuffer<Float>().operand(shape, precision), MatrixOperandBuffer<Float>().operand(shape, precision),
        MatrixOperandBuffer<Float>().operand(kv.shape, precision)
      )
      let (tiles, lse) = (AttentionTiles<Float>(), Tensor<Float>(Shape(test.heads, rows.count)))
      let query: MatrixOperand<Float> = BFloat16Buffer().operand(q, precision)
      let keys: MatrixOperand<Float> = BFloat16Buffer().operand(kv, precision)
      rowAttention(query, kv: keys, test.pattern, rows: rows, into: o, logSumExp: lse, tiles: tiles)
      rowAttentionBackward(
        BFloat16Buffer().operand(slope, precision), o: o, q: query, kv: keys, test.pattern, rows: rows, logSumExp: lse,
        into: (dq, dkv), tiles: tiles)
      return [o, dq, dkv].map { x -> [Double] in
        let numbers = Tensor<Float>(x.shape)
        copy(x, into: numbers)
        return numbers.doubles
      } + [lse.doubles]
    }
    // Outputs are averages of values below 1, rounded once. dS = P (dP − D)/√d reads them in D, a sum of d of them; dq,
    // dk and dv, of which none exceeds 2√d because probabilities add up to 1, are rounded once on top.
    let (unit, d) = (1.0 / 512, Double(test.headWidth).squareRoot())
    let bounds = [1.1 * unit, 3.1 * d * unit, 3.1 * d * unit, 64 * Float.roundoff * 8]
    for (index, bound) in bounds.enumerated() {
      let deviation = Deviation(results[1][index], from: results[0][index])
      #expect(deviation.absolute <= bound, "result \(index): \(deviation)")
    }
  }

  /// Several products of oneDNN side by side, each on one thread, give the same as one after another.
  @Test func onThreads() async {
    await #expect(processExitsWith: .success) {
      let sequences = Sequences(lengths: [5, 1, 9, 2, 7, 9, 5])
      let (heads, w) = (3, 12)
      let pattern = AttentionPattern(sequences, heads: heads, causal: true)
      let qkv = Tensor<Float>.random(Shape(sequences.total, 3 * w), "qkv")
      var results: [[[Float]]] = []
      for threads in [1, 4, 3] {
        Threads.count = threads
        for _ in 0..<5 {
          let (o, dqkv) = (MatrixOperandBuffer<Float>(), MatrixOperandBuffer<Float>())
          let (out, gradient) = (o.operand(Shape(sequences.total, w), .bf16), dqkv.operand(qkv.shape, .bf16))
          let (tiles, lse) = (AttentionTiles<Float>(), Tensor<Float>(Shape(heads, sequences.total)))
          let input: MatrixOperand<Float> = BFloat16Buffer().operand(qkv, .bf16)
          attention(input, pattern, into: out, logSumExp: lse, tiles: tiles)
          attentionBackward(out, o: out, qkv: input, pattern, logSumExp: lse, into: gradient, tiles: tiles)
          results.append([Self.array(out), lse.array, Self.array(gradient)])
        }
      }
      for other in results.dropFirst() { #expect(other == results[0]) }
    }
  }
}
