import Foundation
import Tensor
import TestSupport
import Testing

@testable import Model

/// Gradients of a ResNet's layers, of inputs and of every parameter, against differences.
@Suite struct ResNetLayerGradientTests {
  typealias Variable = GradientCheck.Variable

  private static func store(_ declare: (ParameterStore<Double>) -> Void) -> ParameterStore<Double> {
    let store = ParameterStore<Double>()
    declare(store)
    store.allocate(gradients: true)
    store.shake()
    return store
  }

  @Test(
    arguments: [
      (1, 1, 1, 1, 1), (2, 3, 5, 3, 2), (3, 2, 2, 1, 5), (1, 7, 1, 2, 3), (2, 5, 4, 2, 1),
    ], [1, 3]) func convolution(sizes: (Int, Int, Int, Int, Int), kernel: Int)
  {
    let (images, height, width, inputs, outputs) = sizes
    var made: Convolution<Double>?
    let store = Self.store {
      made = Convolution($0, name: "conv", inputs: inputs, outputs: outputs, size: kernel)
    }
    guard let layer = made else { return }
    let plane = Plane(images: images, height: height, width: width)
    let (x, dx) = (
      Tensor<Double>.random(Shape(plane.rows, inputs), "x"), Tensor<Double>(Shape(plane.rows, inputs))
    )
    let report = GradientCheck(store.variables + [Variable("x", x, gradient: dx, accumulates: false)]).run {
      let y = Tensor<Double>(Shape(plane.rows, outputs))
      layer.forward(.fp32(x), plane, into: .fp32(y))
      return y.array
    } backward: { weights in
      layer.backward(.fp32(Tensor(Shape(plane.rows, outputs), weights)), x: .fp32(x), plane, dx: .fp32(dx))
    }
    #expect(report.passed, "\(report)")
  }

  /// The first convolution of the stem, whose input needs no gradient.
  @Test(arguments: [(1, 1, 1), (2, 5, 3), (1, 4, 6), (3, 2, 7)])
  func convolutionOfStrideTwo(images: Int, height: Int, width: Int) {
    var made: Convolution<Double>?
    let store = Self.store { made = Convolution($0, name: "conv", inputs: 3, outputs: 2, size: 3, stride: 2) }
    guard let layer = made else { return }
    let plane = Plane(images: images, height: height, width: width)
    let x = Tensor<Double>.random(Shape(plane.rows, 3), "x")
    let shape = Shape(layer.output(plane).rows, 2)
    let report = GradientCheck(store.variables).run {
      let y = Tensor<Double>(shape)
      layer.forward(.fp32(x), plane, into: .fp32(y))
      return y.array
    } backward: { weights in
      layer.backward(.fp32(Tensor(shape, weights)), x: .fp32(x), plane, dx: nil)
    }
    #expect(report.passed, "\(report)")
  }

  /// Without ReLU and with outputs that ReLU never meets at its kink: the bias is far above all distances.
  @Test(
    arguments: [(3, 1), (5, 3), (17, 2)],
    [
      (false, false, false), (false, true, false), (true, false, false), (true, true, false), (false, true, true),
      (true, false, true),
    ])
  func batchNorm(sizes: (n: Int, c: Int), form: (relu: Bool, residual: Bool, frozen: Bool)) {
    let (relu, residual, frozen) = form
    var made: BatchNorm<Double>?
    let store = Self.store { made = BatchNorm($0, name: "bn", width: sizes.c) }
    guard let layer = made else { return }
    layer.isFrozen = frozen
    if frozen {
      for j in 0..<sizes.c { (layer.runningMean.value[j], layer.runningVariance.value[j]) = (0.5, 0.25 + Double(j)) }
    }
    let before = store.bufferValues.array
    if relu {
      for j in 0..<sizes.c { layer.bias.value[j] = j % 2 == 0 ? 40 : -40 }
    }
    let shape = Shape(sizes.n, sizes.c)
    let (z, other) = (Tensor<Double>.random(shape, "z", bound: 2), Tensor<Double>.random(shape, "residual"))
    let (dz, dother) = (Tensor<Double>(shape), Tensor<Double>(shape))
    let activations = BatchNorm<Double>.Activations()
    let y = Tensor<Double>(shape)
    var variables = store.variables + [Variable("z", z, gradient: dz, accumulates: false)]
    if residual { variables.append(Variable("residual", other, gradient: dother, accumulates: false)) }
    let report = GradientCheck(variables, roundings: 64).run {
      layer.forward(
        .fp32(z), adding: residual ? .fp32(other) : nil, relu: relu, into: .fp32(y), mode: .training,
        activations: activations)
      return y.array
    } backward: { weights in
      copy(Tensor(shape, weights), into: dother)
      var mask = BatchNormMask<Double>.none
      if relu, residual {
        // The gradient has two parts.
        let second = Tensor<Double>.random(shape, "second")
        add(second, times: -1, to: dother)
        mask = .output(.fp32(y), adding: .fp32(second))
      } else if relu {
        mask = .recomputed
      }
      layer.backward(.fp32(dother), z: .fp32(z), mask: mask, activations: activations, dz: .fp32(dz))
    }
    #expect(report.passed, "\(report)")
    layer.move()
    #expect((store.bufferValues.array == before) == frozen)
  }

  @Test(arguments: [(1, 1, 4, 2, 3), (2, 4, 6, 3, 5), (3, 9, 10, 2, 1), (2, 1, 3, 1, 2)])
  func attentionPool(images: Int, points: Int, width: Int, heads: Int, embedding: Int) {
    guard width % heads == 0 else { return #expect(Bool(false), "heads divide the width") }
    var made: AttentionPool<Double>?
    let store = Self.store {
      made = AttentionPool($0, name: "pool", points: points, width: width, embedding: embedding, heads: heads)
    }
    guard let layer = made else { return }
    let shape = Shape(images * points, width)
    let (x, dx) = (Tensor<Double>.random(shape, "x"), Tensor<Double>(shape))
    let activations = AttentionPool<Double>.Activations()
    func outputs() -> [Double] {
      let y = Tensor<Double>(Shape(images, embedding))
      layer.forward(x, images: images, into: y, activations: activations)
      return y.array
    }
    let variables = store.variables.filter { $0.name != "pool.k_proj.bias" }
    let report = GradientCheck(variables + [Variable("x", x, gradient: dx, accumulates: false)], roundings: 64).run {
      outputs()
    } backward: { weights in
      layer.backward(Tensor(Shape(images, embedding), weights), images: images, activations: activations, dx: dx)
    }
    #expect(report.passed, "\(report)")
    // The key's bias shifts all scores of a head alike.
    let before = outputs()
    fill(layer.key.bias.gradient, 0)
    fill(layer.key.bias.value, 3)
    layer.backward(Tensor(Shape(images, embedding), before), images: images, activations: activations, dx: dx)
    #expect(outputs() == before && layer.key.bias.gradient.array.allSatisfy { $0 == 0 })
  }

  /// Attention over all tokens with keys and values made for each, written plainly.
  @Test func attentionPoolIsAttention() {
    let (images, points, width, heads, embedding) = (2, 6, 10, 2, 3)
    var made: AttentionPool<Double>?
    let store = Self.store {
      made = AttentionPool($0, name: "pool", points: points, width: width, embedding: embedding, heads: heads)
    }
    guard let layer = made else { return }
    let x = Tensor<Double>.random(Shape(images * points, width), "x")
    let y = Tensor<Double>(Shape(images, embedding))
    layer.forward(x, images: images, into: y, activations: AttentionPool<Double>.Activations())

    func linear(_ part: String, _ row: [Double]) -> [Double] {
      guard let weight = store.entry(named: "pool.\(part).weight"), let bias = store.entry(named: "pool.\(part).bias")
      else { return [] }
      let (w, b) = (store.value(of: weight), store.value(of: bias).array)
      return b.indices.map { out in b[out] + zip(row, w.rows(out..<out + 1).array).reduce(0) { $0 + $1.0 * $1.1 } }
    }
    let d = width / heads
    for image in 0..<images {
      let rows = (0..<points).map { x.rows(image * points + $0..<image * points + $0 + 1).array }
      let mean = (0..<width).map { j in rows.reduce(0) { $0 + $1[j] } / Double(points) }
      let tokens = ([mean] + rows).enumerated().map { at, row in
        row.indices.map { row[$0] + layer.positions.value[at * width + $0] }
      }
      let (q, k, v) = (
        linear("q_proj", tokens[0]), tokens.map { linear("k_proj", $0) }, tokens.map { linear("v_proj", $0) }
      )
      var mixed = [Double](repeating: 0, count: width)
      for head in 0..<heads {
        let columns = head * d..<(head + 1) * d
        let scores = k.map { key in
          exp(columns.reduce(0) { $0 + q[$1] * key[$1] } / Double(d).squareRoot())
        }
        let sum = scores.reduce(0, +)
        for (score, value) in zip(scores, v) { for j in columns { mixed[j] += score / sum * value[j] } }
      }
      let deviation = Deviation(y.rows(image..<image + 1).array, from: linear("c_proj", mixed))
      #expect(deviation.relative <= 1e-13, "\(deviation)")
    }
  }
}
