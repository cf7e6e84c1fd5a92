import Tensor
import TestSupport
import Testing

@testable import Model

/// Layers in Float, which use oneDNN's primitives where these are faster, against the same layers in Double, which
/// unfold; and batch norms that follow each image.
@Suite struct ResNetPrimitiveTests {
  private static let plane = Plane(images: 3, height: 10, width: 12)
  private static let hasPrimitives = ConvolutionSizes(plane, inputs: 3, outputs: 5, size: 3).usesPrimitive(Float.self)

  private struct Results {
    let y, dx, dweight: [Double]
  }

  private func results<S: Scalar>(_: S.Type, _ inputs: Int, _ outputs: Int, size: Int) -> Results {
    let store = ParameterStore<S>()
    let layer = Convolution<S>(store, name: "conv", inputs: inputs, outputs: outputs, size: size)
    store.allocate(gradients: true)
    store.shake()
    let plane = Self.plane
    let (x, dy) = (
      Tensor<S>.random(Shape(plane.rows, inputs), "x"), Tensor<S>.random(Shape(plane.rows, outputs), "dy")
    )
    let (y, dx) = (Tensor<S>(dy.shape), Tensor<S>(x.shape))
    layer.forward(.fp32(x), plane, into: .fp32(y))
    layer.backward(.fp32(dy), x: .fp32(x), plane, dx: .fp32(dx))
    return Results(y: y.doubles, dx: dx.doubles, dweight: layer.weight.gradient.doubles)
  }

  @Test(.enabled(if: hasPrimitives, "this processor has no AVX2"), arguments: [(3, 5), (8, 16), (19, 7)], [1, 3])
  func convolution(channels: (inputs: Int, outputs: Int), size: Int) {
    let (inputs, outputs) = channels
    let (found, expected) = (
      results(Float.self, inputs, outputs, size: size), results(Double.self, inputs, outputs, size: size)
    )
    for (found, expected, terms) in [
      (found.y, expected.y, size * size * inputs), (found.dx, expected.dx, size * size * outputs),
      (found.dweight, expected.dweight, Self.plane.rows),
    ] {
      // Sums of so many numbers below 1, of two factors that are rounded too.
      let deviation = Deviation(found, from: expected)
      #expect(deviation.absolute <= Double((terms + 3) * terms) * Float.roundoff, "\(deviation)")
    }
  }

  /// With stored statistics, the norm of each part of a convolution is, to the bit, the norm of the whole.
  @Test(arguments: [1, 3], [false, true]) func storedStatistics(size: Int, hasResidual: Bool) {
    let store = ParameterStore<Float>()
    let layer = NormedConvolution<Float>(
      store, names: ("conv", "bn"), channels: (6, 9), size: size, workspace: ConvolutionWorkspace())
    store.allocate(gradients: false)
    store.shake()
    for j in 0..<9 {
      (layer.norm.runningMean.value[j], layer.norm.runningVariance.value[j]) = (0.1 * Double(j), 0.5 + Double(j))
    }
    let plane = Self.plane
    let x = MatrixOperand.fp32(Tensor<Float>.random(Shape(plane.rows, 6), "x"))
    let shape = Shape(plane.rows, 9)
    let residual = hasResidual ? MatrixOperand.fp32(Tensor<Float>.random(shape, "residual")) : nil
    let (z, y) = (Tensor<Float>(shape), Tensor<Float>(shape))
    layer.convolution.forward(x, plane, into: .fp32(z))
    layer.norm.forward(
      .fp32(z), adding: residual, relu: true, into: .fp32(y), mode: .evaluation,
      activations: BatchNorm<Float>.Activations())
    for mode in [ForwardMode.evaluation, .training] {
      layer.norm.isFrozen = mode == .training
      let found = layer.forward(
        x, plane, adding: residual, mode: mode, activations: NormedConvolution<Float>.Activations())
      guard case .fp32(let found) = found else {
        Issue.record("rounded")
        return
      }
      #expect(found.array == y.array && found.array.contains { $0 > 0 }, "\(mode)")
    }
  }
}
