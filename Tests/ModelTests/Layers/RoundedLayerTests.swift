import Tensor
import TestSupport
import Testing

@testable import Model

/// Layers whose products round their operands: where there is nothing to round, they are the exact layers.
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
    let layer = Linear(
      weight: store.declare("weight", Shape(outputs, inputs), .zeros),
      bias: store.declare("bias", Shape(outputs), .zeros))
    store.allocate(gradients: true)
    copy(Self.coarse(Shape(store.count), "values"), into: store.values)
    let (x, dy) = (Self.coarse(Shape(n, inputs), "x"), Self.coarse(Shape(n, outputs), "dy"))
    let results = Precision.allCases.map { precision in
      fill(store.gradients, 0.25)
      let (y, dx) = (Tensor<Double>(dy.shape), Tensor<Double>(x.shape))
      let input: Operand<Double> = RoundedBuffer().operand(x, precision)
      layer.forward(input, into: .exact(y))
      layer.backward(RoundedBuffer().operand(dy, precision), x: input, dx: .exact(dx))
      return [y.array, dx.array, store.gradients.array]
    }
    #expect(results[0] == results[1])
  }

  @Test(arguments: [(1, 1, 1, 1, 1), (2, 3, 5, 3, 2), (3, 2, 2, 1, 5), (1, 7, 1, 2, 3)], [(1, 1), (3, 1), (3, 2)])
  func convolution(sizes: (Int, Int, Int, Int, Int), kernel: (size: Int, stride: Int)) {
    let (pictures, height, width, inputs, outputs) = sizes
    var made: Convolution<Double>?
    let store = Self.store {
      made = Convolution(
        $0, name: "conv", inputs: inputs, outputs: outputs, size: kernel.size, stride: kernel.stride)
    }
    guard let layer = made else { return }
    let plane = Plane(pictures: pictures, height: height, width: width)
    let x = Self.coarse(Shape(plane.rows, inputs), "x")
    let dy = Self.coarse(Shape(layer.output(plane).rows, outputs), "dy")
    let results = Precision.allCases.map { precision in
      fill(store.gradients, 0.25)
      let workspace = ConvolutionWorkspace<Double>(precision)
      let (y, dx) = (Tensor<Double>(dy.shape), Tensor<Double>(x.shape))
      let input: Operand<Double> = RoundedBuffer().operand(x, precision)
      layer.forward(input, plane, into: .exact(y), workspace: workspace)
      layer.backward(
        RoundedBuffer().operand(dy, precision), x: input, plane, dx: kernel.stride == 1 ? .exact(dx) : nil,
        workspace: workspace)
      return [y.array, dx.array, store.gradients.array]
    }
    #expect(results[0] == results[1])
  }

  /// Backward multiplies by the weights that forward had, whatever they have become since.
  @Test func weightsAreRoundedByForward() {
    let store = ParameterStore<Double>()
    let layer = Linear(
      weight: store.declare("weight", Shape(1, 1), .zeros), bias: store.declare("bias", Shape(1), .zeros))
    store.allocate(gradients: true)
    let (one, y) = (Tensor<Double>(Shape(1, 1), [1]), Tensor<Double>(Shape(1, 1)))
    let input: Operand<Double> = RoundedBuffer().operand(one, .bf16)
    layer.weight.value[0] = 1.001
    layer.forward(input, into: .exact(y))
    #expect(y[0] == 1)
    layer.weight.value[0] = 1.02
    layer.forward(input, into: .exact(y))
    #expect(y[0] == 1.0234375)
    layer.weight.value[0] = 5
    layer.backward(RoundedBuffer().operand(one, .bf16), x: input, dx: .exact(y))
    #expect(y[0] == 1.0234375)
  }

  /// While values are held, the first reader's rounding serves all; after that each rounds again.
  @Test func weightsAreRoundedOnceWhileTheyAreHeld() {
    let store = ParameterStore<Double>()
    let layer = Linear(
      weight: store.declare("weight", Shape(1, 1), .zeros), bias: store.declare("bias", Shape(1), .zeros))
    store.allocate(gradients: false)
    let (one, y) = (Tensor<Double>(Shape(1, 1), [1]), Tensor<Double>(Shape(1, 1)))
    func output(of input: Operand<Double>) -> Double {
      layer.forward(input, into: .exact(y))
      return y[0]
    }
    let input: Operand<Double> = RoundedBuffer().operand(one, .bf16)
    layer.weight.value[0] = 2
    store.holdsValues = true
    // An exact product rounds nothing that a rounded one could take for its own.
    #expect(output(of: .exact(one)) == 2 && output(of: input) == 2)
    layer.weight.value[0] = 3
    #expect(output(of: input) == 2 && output(of: .exact(one)) == 3)
    store.holdsValues = false
    #expect(output(of: input) == 3)
    layer.weight.value[0] = 4
    #expect(output(of: input) == 4)
    store.holdsValues = true
    layer.weight.value[0] = 5
    #expect(output(of: input) == 5)
  }
}
