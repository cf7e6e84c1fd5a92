import TestSupport
import Testing

@testable import Tensor

/// Kernels that read and write rounded numbers: what they give is the exact kernel's result on the same numbers,
/// rounded.
@Suite struct RoundedKernelTests {
  /// Numbers that rounding leaves as they are.
  private static func coarse<S: Scalar>(_ shape: Shape, _ name: String, bound: Double = 1) -> Tensor<S> {
    let x = Tensor<S>.random(shape, name, bound: bound)
    let buffer = RoundedBuffer()
    let rounded = buffer.view(shape)
    round(x, into: rounded)
    for (index, value) in rounded.array.enumerated() { x[index] = S(value) }
    return x
  }

  private static func rounded<S: Scalar>(_ x: Tensor<S>) -> Operand<S> { RoundedBuffer().operand(x, .bf16) }

  private static func array<S: Scalar>(_ x: Operand<S>) -> [Float] {
    switch x {
    case .exact(let x):
      let view = RoundedBuffer().view(x.shape)
      round(x, into: view)
      return view.array
    case .rounded(let x): return x.array
    }
  }

  private static let shapes = [Shape(1, 1), Shape(3, 7), Shape(5, 64), Shape(37, 129)]

  @Test(arguments: shapes) func inDouble(shape: Shape) { passes(Double.self, shape) }
  @Test(arguments: shapes) func inSinglePrecision(shape: Shape) { passes(Float.self, shape) }

  private func passes<S: Scalar>(_: S.Type, _ shape: Shape) {
    let (n, w) = (shape[0], shape[1])
    let x = Self.coarse(shape, "x", bound: 4) as Tensor<S>
    let (weight, bias) = (Tensor<S>.random(Shape(w), "weight"), Tensor<S>.random(Shape(w), "bias"))

    let results = Precision.allCases.map { precision -> [[Float]] in
      let (y, h) = (
        OperandBuffer<S>().operand(shape, precision), RoundedBuffer().operand(Tensor(shape, x.array), precision)
      )
      let (mean, reciprocal) = (Tensor<S>(Shape(n)), Tensor<S>(Shape(n)))
      layerNorm(x, weight: weight, bias: bias, into: y, mean: mean, reciprocal: reciprocal)
      var found = [Self.array(y)]
      for activation in [Activation.gelu, .quickGELU] {
        let h: Operand<S> = RoundedBuffer().operand(Tensor(shape, x.array), precision)
        biasActivation(h, bias: bias, activation, into: y)
        found += [Self.array(h), Self.array(y)]
      }
      let derivative: Operand<S> = RoundedBuffer().operand(Self.coarse(shape, "derivative"), precision)
      let sums = Tensor<S>(Shape(w), bias.array)
      biasActivationBackward(h, derivative: derivative, dbias: sums)
      found += [Self.array(h), Self.array(.exact(sums))]
      addColumnSums(of: derivative, to: sums)
      return found + [Self.array(.exact(sums))]
    }
    #expect(results[0] == results[1])

    let images = Tensor<S>.random(Shape(2, 3, 7, 5), "images")
    let cut = Precision.allCases.map { precision in
      let rows = OperandBuffer<S>().operand(Shape(2 * 3 * 2, 12), precision)
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
    let results = Precision.allCases.map { precision -> (o: [Double], lse: [Double], dqkv: [Double]) in
      let (o, dqkv) = (OperandBuffer<S>(), OperandBuffer<S>())
      let (tiles, lse) = (AttentionTiles<S>(), Tensor<S>(Shape(test.heads, n)))
      let (out, gradient) = (o.operand(Shape(n, w), precision), dqkv.operand(qkv.shape, precision))
      let input: Operand<S> = RoundedBuffer().operand(qkv, precision)
      attention(input, sequences, heads: test.heads, causal: test.causal, into: out, logSumExp: lse, tiles: tiles)
      attentionBackward(
        RoundedBuffer().operand(slope, precision), o: out, qkv: input, logSumExp: lse, sequences, heads: test.heads,
        causal: test.causal, into: gradient, tiles: tiles)
      func numbers(_ x: Operand<S>) -> [Double] {
        switch x {
        case .exact(let x): x.doubles
        case .rounded(let x): x.array.map { Double($0) }
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
    // What no worst case hides: in the mean the gradients keep two digits.
    #expect(off <= 0.02 * size + 1e-12, "\(off) of \(size)")
  }

  /// Several products of oneDNN at the same time, each of one thread, give what one after the other does.
  @Test func onThreads() async {
    await #expect(processExitsWith: .success) {
      let sequences = Sequences(lengths: [5, 1, 9, 2, 7, 9, 5])
      let (heads, w) = (3, 12)
      let qkv = Tensor<Float>.random(Shape(sequences.total, 3 * w), "qkv")
      var results: [[[Float]]] = []
      for threads in [1, 4, 3] {
        Threads.count = threads
        for _ in 0..<5 {
          let (o, dqkv) = (OperandBuffer<Float>(), OperandBuffer<Float>())
          let (out, gradient) = (o.operand(Shape(sequences.total, w), .bf16), dqkv.operand(qkv.shape, .bf16))
          let (tiles, lse) = (AttentionTiles<Float>(), Tensor<Float>(Shape(heads, sequences.total)))
          let input: Operand<Float> = RoundedBuffer().operand(qkv, .bf16)
          attention(input, sequences, heads: heads, causal: true, into: out, logSumExp: lse, tiles: tiles)
          attentionBackward(
            out, o: out, qkv: input, logSumExp: lse, sequences, heads: heads, causal: true, into: gradient, tiles: tiles
          )
          results.append([Self.array(out), lse.array, Self.array(gradient)])
        }
      }
      for other in results.dropFirst() { #expect(other == results[0]) }
    }
  }
}
