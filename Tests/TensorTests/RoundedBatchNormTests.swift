import TestSupport
import Testing

@testable import Tensor

/// Batch norm and pooling of bf16 matrices give the results of fp32 matrices with the same numbers, rounded once.
@Suite struct RoundedBatchNormTests {
  /// Columns in part of a panel, in a whole one, and in several.
  static let shapes = [
    Shape(1, 1), Shape(5, 7), Shape(300, 17), Shape(11, 63), Shape(70, 64), Shape(13, 65), Shape(2000, 150),
  ]

  /// Numbers that bfloat16 represents exactly, as fp32 and as bf16.
  private struct Pair<S: Scalar> {
    let exact: Tensor<S>
    let buffer = BFloat16Buffer()
    let rounded: MatrixOperand<S>

    init(_ shape: Shape, _ name: String, bound: Double = 2) {
      let x = Tensor<S>.random(shape, name, bound: bound)
      rounded = buffer.operand(x, .bf16)
      exact = Tensor<S>(shape)
      copy(rounded, into: exact)
    }
  }

  private static func rounded<S: Scalar>(_ x: Tensor<S>) -> [S] {
    let (buffer, y) = (BFloat16Buffer(), Tensor<S>(x.shape))
    copy(buffer.operand(x, .bf16), into: y)
    return y.array
  }

  private static func exact<S: Scalar>(_ x: MatrixOperand<S>) -> [S] {
    let y = Tensor<S>(x.shape)
    copy(x, into: y)
    return y.array
  }

  @Test(arguments: shapes) func inSinglePrecision(shape: Shape) { compare(Float.self, shape) }
  @Test(arguments: shapes) func inDouble(shape: Shape) { compare(Double.self, shape) }

  private func compare<S: Scalar>(_: S.Type, _ shape: Shape) {
    let c = shape[1]
    let (z, residual) = (Pair<S>(shape, "z"), Pair<S>(shape, "residual"))
    let columns = ["mean", "scale", "bias", "offset", "slope"].map { Tensor<S>.random(Shape(c), $0) }
    let vectors = BatchNormVectors(mean: columns[0], scale: columns[1], bias: columns[2])

    for (added, relu) in [(false, false), (false, true), (true, false), (true, true)] {
      let (expected, buffer) = (Tensor<S>(shape), MatrixOperandBuffer<S>())
      let found = buffer.operand(shape, .bf16)
      batchNorm(
        .fp32(z.exact), vectors, adding: added ? .fp32(residual.exact) : nil, relu: relu, into: .fp32(expected))
      batchNorm(z.rounded, vectors, adding: added ? residual.rounded : nil, relu: relu, into: found)
      #expect(Self.exact(found) == Self.rounded(expected), "added \(added), relu \(relu)")
    }

    let moments = (0..<4).map { _ in Tensor<Double>(Shape(c)) }
    columnMoments(.fp32(z.exact), mean: moments[0], squares: moments[1])
    columnMoments(z.rounded, mean: moments[2], squares: moments[3])
    #expect(Deviation(moments[2].array, from: moments[0].array).absolute <= 4 * S.roundoff)
    #expect(Deviation(moments[3].array, from: moments[1].array).relative <= 8 * S.roundoff)

    for way in 0..<4 {
      let (dy, y, other) = (Pair<S>(shape, "dy"), Pair<S>(shape, "y"), Pair<S>(shape, "other"))
      let masks: (BatchNormMask<S>, BatchNormMask<S>) =
        switch way {
        case 0: (.none, .none)
        case 1: (.recomputed, .recomputed)
        case 2: (.output(.fp32(y.exact)), .output(y.rounded))
        default: (.output(.fp32(y.exact), adding: .fp32(other.exact)), .output(y.rounded, adding: other.rounded))
        }
      let sums = (0..<4).map { _ in Tensor<Double>(Shape(c)) }
      batchNormBackwardSums(
        .fp32(dy.exact), z: .fp32(z.exact), mask: masks.0, vectors, sum: sums[0], along: sums[1])
      batchNormBackwardSums(dy.rounded, z: z.rounded, mask: masks.1, vectors, sum: sums[2], along: sums[3])
      #expect(Self.exact(dy.rounded) == Self.rounded(dy.exact), "what passes, way \(way)")
      // Each of the sums' terms may have been rounded once, by 2⁻⁹ of at most 4.
      let tolerance = (way == 3 ? 0x1p-7 : 4 * S.roundoff) * Double(shape[0]) * 3
      #expect(Deviation(sums[2].array, from: sums[0].array).absolute <= tolerance, "way \(way)")
      #expect(Deviation(sums[3].array, from: sums[1].array).absolute <= tolerance, "way \(way)")

      let (expected, buffer) = (Tensor<S>(shape), MatrixOperandBuffer<S>())
      let (found, gradient) = (buffer.operand(shape, .bf16), Pair<S>(shape, "gradient"))
      batchNormBackward(
        .fp32(gradient.exact), z: .fp32(z.exact), recomputed: way == 1, vectors, offset: columns[3],
        slope: columns[4], into: .fp32(expected))
      for target in [found, gradient.rounded] {
        batchNormBackward(
          gradient.rounded, z: z.rounded, recomputed: way == 1, vectors, offset: columns[3], slope: columns[4],
          into: target)
        #expect(Self.exact(target) == Self.rounded(expected))
      }
    }
  }

  @Test func notANumberIsNotSwallowed() {
    let shape = Shape(3, 65)
    let x = Tensor<Float>.random(shape, "x")
    x[1] = .nan
    x[64] = .infinity
    let (buffer, other) = (BFloat16Buffer(), Pair<Float>(shape, "other"))
    let (dy, ones) = (buffer.operand(x, .bf16), Pair<Float>(shape, "ones"))
    fill(ones.exact, 1)
    copy(ones.exact, into: ones.rounded)
    let columns = (0..<3).map { _ in Tensor<Float>(Shape(65)) }
    let (sum, along) = (Tensor<Double>(Shape(65)), Tensor<Double>(Shape(65)))
    batchNormBackwardSums(
      dy, z: ones.rounded, mask: .output(ones.rounded, adding: other.rounded),
      BatchNormVectors(mean: columns[0], scale: columns[1], bias: columns[2]), sum: sum, along: along)
    let passed = Self.exact(dy)
    #expect(passed[1].isNaN && passed[64] == .infinity && passed[0].isFinite)
    #expect(sum[1].isNaN && along[1].isNaN && sum[64] == .infinity && sum[0].isFinite)
  }

  @Test(arguments: [(1, 2, 2, 1), (2, 3, 5, 3), (3, 4, 6, 70), (1, 5, 1, 3)])
  func pools(images: Int, height: Int, width: Int, channels: Int) {
    let plane = Plane(images: images, height: height, width: width)
    let shapes = (Shape(plane.rows, channels), Shape(plane.halved.rows, channels))
    let (x, dy) = (Pair<Float>(shapes.0, "x"), Pair<Float>(shapes.1, "dy"))
    let (y, dx) = (Tensor<Float>(shapes.1), Tensor<Float>(shapes.0))
    let buffers = (MatrixOperandBuffer<Float>(), MatrixOperandBuffer<Float>())
    let found = (buffers.0.operand(shapes.1, .bf16), buffers.1.operand(shapes.0, .bf16))
    averagePool(.fp32(x.exact), plane, into: .fp32(y))
    averagePool(x.rounded, plane, into: found.0)
    #expect(Self.exact(found.0) == Self.rounded(y))
    averagePoolBackward(.fp32(dy.exact), plane, into: .fp32(dx))
    averagePoolBackward(dy.rounded, plane, into: found.1)
    #expect(Self.exact(found.1) == Self.rounded(dx))
    add(x.rounded, to: found.1)
    add(x.exact, to: dx)
    #expect(Self.exact(found.1) == Self.rounded(dx))
  }
}
