import Tensor
import TestSupport
import Testing

@testable import Model

/// Layers with bf16 products equal those with fp32 products if bfloat16 represents all numbers exactly.
@Suite struct RoundedLayerTests {
  /// Numbers of at most 8 significant bits.
  private static func coarse(_ shape: Shape, _ name: String) -> Tensor<Double> {
    let x = Tensor<Double>.random(shape, name)
    for index in 0..<x.count { x[index] = (x[index] * 64).rounded() / 64 }
    return x
  }

  private static func store(_ declare: (ParameterStore<Double>) -> Void) -> ParameterStore<Double> {
    let store = ParameterStore<Double>()
    declare(store)
    store.allocate(gradients: true)
    copy(coarse(Shape(store.count), "values"), into: store.values)
    return store
  }

  @Test(arguments: [(1, 1, 1), (5, 3, 2), (7, 1, 3), (11, 13, 17)])
  func linear(n: Int, inputs: Int, outputs: Int) {
    let store = ParameterStore<Double>()
    let layer = Linear(store, prefix: "", from: inputs, to: outputs, (.zeros, .zeros))
    store.allocate(gradients: true)
    copy(Self.coarse(Shape(store.count), "values"), into: store.values)
    let (x, dy) = (Self.coarse(Shape(n, inputs), "x"), Self.coarse(Shape(n, outputs), "dy"))
    let results = ComputePrecision.allCases.map { precision in
      fill(store.gradients, 0.25)
      let (y, dx) = (Tensor<Double>(dy.shape), Tensor<Double>(x.shape))
      let input: MatrixOperand<Double> = BFloat16Buffer().operand(x, precision)
      layer.forward(input, into: .fp32(y))
      layer.backward(BFloat16Buffer().operand(dy, precision), x: input, dx: .fp32(dx))
      return [y.array, dx.array, store.gradients.array]
    }
    #expect(results[0] == results[1])
  }

  @Test(arguments: [(1, 1, 1, 1, 1), (2, 3, 5, 3, 2), (3, 2, 2, 1, 5), (1, 7, 1, 2, 3)], [(1, 1), (3, 1), (3, 2)])
  func convolution(sizes: (Int, Int, Int, Int, Int), kernel: (size: Int, stride: Int)) {
    let (images, height, width, inputs, outputs) = sizes
    var made: Convolution<Double>?
    let store = Self.store {
      made = Convolution(
        $0, name: "conv", inputs: inputs, outputs: outputs, size: kernel.size, stride: kernel.stride)
    }
    guard let layer = made else { return }
    let plane = Plane(images: images, height: height, width: width)
    let x = Self.coarse(Shape(plane.rows, inputs), "x")
    let dy = Self.coarse(Shape(layer.output(plane).rows, outputs), "dy")
    let results = ComputePrecision.allCases.map { precision in
      fill(store.gradients, 0.25)
      let (y, dx) = (Tensor<Double>(dy.shape), Tensor<Double>(x.shape))
      let input: MatrixOperand<Double> = BFloat16Buffer().operand(x, precision)
      layer.forward(input, plane, into: .fp32(y))
      layer.backward(
        BFloat16Buffer().operand(dy, precision), x: input, plane, dx: kernel.stride == 1 ? .fp32(dx) : nil)
      return [y.array, dx.array, store.gradients.array]
    }
    #expect(results[0] == results[1])
  }

  /// Backward multiplies by the weights that forward had, whatever they have become since.
  @Test func weightsAreRoundedByForward() {
    let store = ParameterStore<Double>()
    let layer = Linear(store, prefix: "", from: 1, to: 1, (.zeros, .zeros))
    store.allocate(gradients: true)
    let (one, y) = (Tensor<Double>(Shape(1, 1), [1]), Tensor<Double>(Shape(1, 1)))
    let input: MatrixOperand<Double> = BFloat16Buffer().operand(one, .bf16)
    layer.weight.value[0] = 1.001
    layer.forward(input, into: .fp32(y))
    #expect(y[0] == 1)
    layer.weight.value[0] = 1.02
    layer.forward(input, into: .fp32(y))
    #expect(y[0] == 1.0234375)
    layer.weight.value[0] = 5
    layer.backward(BFloat16Buffer().operand(one, .bf16), x: input, dx: .fp32(y))
    #expect(y[0] == 1.0234375)
  }

  /// While values are held, they are rounded at the first reading only; otherwise at every reading.
  @Test func weightsAreRoundedOnceWhileTheyAreHeld() {
    let store = ParameterStore<Double>()
    let layer = Linear(store, prefix: "", from: 1, to: 1, (.zeros, .zeros))
    store.allocate(gradients: false)
    let (one, y) = (Tensor<Double>(Shape(1, 1), [1]), Tensor<Double>(Shape(1, 1)))
    func output(of input: MatrixOperand<Double>) -> Double {
      layer.forward(input, into: .fp32(y))
      return y[0]
    }
    let input: MatrixOperand<Double> = BFloat16Buffer().operand(one, .bf16)
    layer.weight.value[0] = 2
    store.holdsValues = true
    // An fp32 product rounds nothing that a later bf16 product could reuse.
    #expect(output(of: .fp32(one)) == 2 && output(of: input) == 2)
    layer.weight.value[0] = 3
    #expect(output(of: input) == 2 && output(of: .fp32(one)) == 3)
    store.holdsValues = false
    #expect(output(of: input) == 3)
    layer.weight.value[0] = 4
    #expect(output(of: input) == 4)
    store.holdsValues = true
    layer.weight.value[0] = 5
    #expect(output(of: input) == 5)
  }
}
