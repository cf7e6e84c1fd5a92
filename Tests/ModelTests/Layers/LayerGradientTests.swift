import Tensor
import TestSupport
import Testing

@testable import Model

/// The gradients of every layer's input and parameters against differences; those of parameters are added.
@Suite struct LayerGradientTests {
  typealias Variable = GradientCheck.Variable

  @Test(arguments: [(1, 1, 1), (5, 3, 2), (7, 1, 3), (2, 4, 1)])
  func linear(n: Int, inputs: Int, outputs: Int) {
    let store = ParameterStore<Double>()
    let layer = Linear(store, prefix: "", from: inputs, to: outputs, (.zeros, .zeros))
    store.allocate(gradients: true)
    store.shake()
    let (x, dx) = (Tensor<Double>.random(Shape(n, inputs), "x"), Tensor<Double>(Shape(n, inputs)))
    let residual = Tensor<Double>.random(Shape(n, outputs), "residual")
    let report = GradientCheck(store.variables + [Variable("x", x, gradient: dx, accumulates: false)]).run {
      let y = Tensor<Double>(Shape(n, outputs))
      layer.forward(x, into: y)
      return y.array
    } backward: { weights in
      layer.backward(Tensor(Shape(n, outputs), weights), x: x, dx: dx)
    }
    #expect(report.passed, "\(report)")

    let (plain, onto) = (Tensor<Double>(residual.shape), Tensor(residual.shape, residual.array))
    layer.forward(x, into: plain)
    layer.forward(.fp32(x), adding: onto, into: onto)
    let sums = zip(plain.array, residual.array).map { $0 + $1 }
    #expect(Deviation(onto.array, from: sums).absolute <= Double(inputs + 3) * 4 * Double.roundoff)
  }

  @Test(arguments: [(1, 2), (5, 3), (3, 7)]) func layerNorm(n: Int, w: Int) {
    let store = ParameterStore<Double>()
    let layer = LayerNorm(store, name: "ln_1", width: w)
    store.allocate(gradients: true)
    store.shake()
    let (x, dx) = (Tensor<Double>.random(Shape(n, w), "x", bound: 2), Tensor<Double>(Shape(n, w)))
    let activations = LayerNorm<Double>.Activations()
    let report = GradientCheck(store.variables + [Variable("x", x, gradient: dx)]).run {
      let y = Tensor<Double>(x.shape)
      layer.forward(x, into: .fp32(y), activations: activations)
      return y.array
    } backward: { weights in
      layer.backward(Tensor(x.shape, weights), x: x, activations: activations, dx: dx)
    }
    #expect(report.passed, "\(report)")
  }

  /// With one column the output is the bias, whatever the input, so differences would show nothing.
  @Test func layerNormOfOneColumn() {
    let store = ParameterStore<Double>()
    let layer = LayerNorm(store, name: "ln_1", width: 1)
    store.allocate(gradients: true)
    store.shake()
    let (x, y, dx) = (Tensor(Shape(2, 1), [3.0, -8]), Tensor<Double>(Shape(2, 1)), Tensor<Double>(Shape(2, 1)))
    let activations = LayerNorm<Double>.Activations()
    layer.forward(x, into: .fp32(y), activations: activations)
    #expect(y.array == [layer.bias.value[0], layer.bias.value[0]])
    layer.backward(Tensor(Shape(2, 1), [1, 2]), x: x, activations: activations, dx: dx)
    #expect(dx.array == [0, 0] && layer.weight.gradient[0] == 0 && layer.bias.gradient[0] == 3)
  }

  struct Attention: CustomTestStringConvertible, Sendable {
    let width: Int
    let heads: Int
    let lengths: [Int]
    let causal: Bool
    var testDescription: String { "width \(width), \(heads) heads, \(lengths)\(causal ? ", causal" : "")" }
  }
  static let attentions = [true, false].flatMap { causal in
    [
      Attention(width: 2, heads: 2, lengths: [3, 2], causal: causal),
      Attention(width: 3, heads: 1, lengths: [2, 5, 1], causal: causal),
      Attention(width: 10, heads: 2, lengths: [7], causal: causal),
      Attention(width: 6, heads: 3, lengths: [1, 4, 0, 3], causal: causal),
    ]
  }

  @Test(arguments: attentions) func selfAttention(_ sizes: Attention) { checkSelfAttention(sizes) }

  /// Only the first or the last row of each sequence has a query.
  @Test(arguments: attentions.filter { !$0.lengths.contains(0) }, [true, false])
  func selfAttentionOfOneRow(_ sizes: Attention, isFirst: Bool) {
    let sequences = Sequences(lengths: sizes.lengths)
    checkSelfAttention(sizes, rows: isFirst ? sequences.firsts : sequences.lasts)
  }

  private func checkSelfAttention(_ sizes: Attention, rows: [Int]? = nil) {
    let store = ParameterStore<Double>()
    let layer = SelfAttention(
      store, name: "attn", width: sizes.width, heads: sizes.heads, causal: sizes.causal, initial: (.zeros, .zeros))
    store.allocate(gradients: true)
    store.shake()
    let sequences = Sequences(lengths: sizes.lengths)
    let shape = Shape(sequences.total, sizes.width)
    let (x, dx) = (Tensor<Double>.random(shape, "x"), Tensor<Double>(shape))
    let residual = Tensor<Double>.random(Shape(rows?.count ?? sequences.total, sizes.width), "residual")
    let (activations, workspace) = (SelfAttention<Double>.Activations(), Workspace<Double>())
    let report = GradientCheck(store.variables + [Variable("x", x, gradient: dx, accumulates: false)]).run {
      let y = Tensor<Double>(residual.shape)
      layer.forward(
        .fp32(x), sequences, rows: rows, adding: residual, into: y, activations: activations, workspace: workspace)
      return y.array
    } backward: { weights in
      layer.backward(
        .fp32(Tensor(residual.shape, weights)), x: .fp32(x), sequences, rows: rows, activations: activations, dx: dx,
        workspace: workspace)
    }
    #expect(report.passed, "\(report)")
  }

  @Test(arguments: [Activation.gelu, .quickGELU], [(1, 1, 2), (5, 3, 7)])
  func mlp(activation: Activation, sizes: (n: Int, width: Int, hidden: Int)) {
    let store = ParameterStore<Double>()
    let layer = MLP(
      store, name: "mlp", width: sizes.width, hidden: sizes.hidden, activation: activation, expand: (.zeros, .zeros),
      contract: (.zeros, .zeros))
    store.allocate(gradients: true)
    store.shake()
    let shape = Shape(sizes.n, sizes.width)
    let (x, dx) = (Tensor<Double>.random(shape, "x"), Tensor<Double>(shape))
    let residual = Tensor<Double>.random(shape, "residual")
    let (activations, workspace) = (MLP<Double>.Activations(), Workspace<Double>())
    let report = GradientCheck(store.variables + [Variable("x", x, gradient: dx, accumulates: false)]).run {
      let y = Tensor<Double>(shape)
      layer.forward(.fp32(x), adding: residual, into: y, activations: activations)
      return y.array
    } backward: { weights in
      layer.backward(.fp32(Tensor(shape, weights)), x: .fp32(x), activations: activations, dx: dx, workspace: workspace)
    }
    #expect(report.passed, "\(report)")
  }

  /// Of the block all rows are read, or one of each sequence: the last, the only, and one that has rows around it.
  @Test(arguments: [(3, 1, true), (6, 3, false), (5, 5, true)], [nil, [1, 2, 4]] as [[Int]?])
  func residualAttentionBlock(sizes: (width: Int, heads: Int, causal: Bool), rows: [Int]?) {
    let (width, heads, causal) = sizes
    let store = ParameterStore<Double>()
    let config = TransformerConfig(
      width: width, blocks: BlockSizes(layers: 1, width: width, heads: heads, hidden: width + 2),
      survivors: Survivors<Double>(), causal: causal, activation: causal ? .quickGELU : .gelu,
      initial: (inProjection: .zeros, outProjection: .zeros, expand: .zeros, contract: .zeros),
      precision: .fp32)
    let block = ResidualAttentionBlock(store, name: "block", config, index: 0)
    store.allocate(gradients: true)
    store.shake()
    let sequences = Sequences(lengths: [2, 1, 3])
    let shape = Shape(sequences.total, width)
    let (x, dx) = (Tensor<Double>.random(shape, "x", bound: 2), Tensor<Double>(shape))
    let (activations, workspace) = (ResidualAttentionBlock<Double>.Activations(), Workspace<Double>())
    let report = GradientCheck(
      store.variables + [Variable("x", x, gradient: dx, accumulates: false)], roundings: 64
    ).run {
      block.forward(x, sequences, rows: rows, activations: activations, workspace: workspace).array
    } backward: { weights in
      if rows == nil { copy(Tensor(shape, weights), into: dx) }
      block.backward(
        dx, x: x, sequences, read: rows.map { (rows: $0, dy: Tensor(Shape($0.count, width), weights)) },
        activations: activations, workspace: workspace)
    }
    #expect(report.passed, "\(report)")
  }
}
