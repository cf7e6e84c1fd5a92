import TestSupport
import Testing

@testable import Tensor

/// oneDNN's convolutions against plain loops in Double, over sizes that do not fill its blocks of channels.
@Suite struct PrimitiveConvolutionTests {
  private static func sizes(
    _ images: Int, _ height: Int, _ width: Int, _ inputs: Int, _ outputs: Int, _ stride: Int = 1
  ) -> [ConvolutionSizes] {
    let plane = Plane(images: images, height: height, width: width)
    return (stride == 1 ? [1, 3] : [3]).map {
      ConvolutionSizes(plane, inputs: inputs, outputs: outputs, size: $0, stride: stride)
    }
  }

  static let sizes =
    sizes(1, 1, 1, 1, 1) + sizes(2, 1, 5, 3, 2) + sizes(1, 7, 1, 2, 3, 2) + sizes(3, 5, 7, 17, 5)
    + sizes(3, 5, 7, 3, 20, 2) + sizes(2, 4, 6, 7, 3, 2) + sizes(2, 9, 11, 40, 33) + sizes(0, 4, 4, 2, 3)

  @Test(.enabled(if: OneDNN.hasConvolutions, "this processor has no AVX2"), arguments: sizes)
  func equalsPlainLoops(_ s: ConvolutionSizes) {
    let x = Tensor<Float>.random(Shape(s.plane.rows, s.inputs), "x")
    let dy = Tensor<Float>.random(Shape(s.output.rows, s.outputs), "dy")
    let weight = Tensor<Float>.random(Shape(s.outputs, s.inputs, s.size, s.size), "weight")
    let (y, dx, room) = (Tensor<Float>(dy.shape), Tensor<Float>(x.shape), MatrixOperandBuffer<Float>())
    // What they held before must not matter.
    fill(y, .nan)
    fill(dx, .nan)
    var finished: [Range<Int>] = []
    convolve(x, weight, s, into: y, room: room) { rows, _ in finished.append(rows) }
    convolveBackward(dy, weight, s, into: dx, room: room)

    let points = s.output.points
    #expect(finished == (0..<s.plane.images).map { $0 * points..<($0 + 1) * points })
    let (a, w, d) = (x.doubles, weight.doubles, dy.doubles)
    var sums = ([Double](repeating: 0, count: d.count), [Double](repeating: 0, count: a.count))
    forEachTerm(s) { x, weight, y in
      sums.0[y] += a[x] * w[weight]
      sums.1[x] += d[y] * w[weight]
    }
    for (found, sums, channels) in [(y, sums.0, s.inputs), (dx, sums.1, s.outputs)] {
      // Sums of so many numbers below 1, each rounded at most as often.
      let terms = Double(s.size * s.size * channels)
      let deviation = Deviation(found.doubles, from: sums)
      #expect(deviation.absolute <= (terms + 1) * terms * Float.roundoff, "\(deviation)")
    }
  }

  /// Calls `body` with the places of x and of the weight whose product is a summand of the given place of y.
  private func forEachTerm(_ s: ConvolutionSizes, _ body: (_ x: Int, _ weight: Int, _ y: Int) -> Void) {
    let (plane, border) = (s.plane, s.size / 2)
    for row in 0..<s.output.rows {
      let (line, column) = row.quotientAndRemainder(dividingBy: s.output.width)
      let (image, y) = line.quotientAndRemainder(dividingBy: s.output.height)
      for tap in 0..<s.size * s.size {
        let (iy, ix) = (y * s.stride + tap / s.size - border, column * s.stride + tap % s.size - border)
        guard iy >= 0, iy < plane.height, ix >= 0, ix < plane.width else { continue }
        let point = (image * plane.height + iy) * plane.width + ix
        for o in 0..<s.outputs {
          for i in 0..<s.inputs {
            body(point * s.inputs + i, (o * s.inputs + i) * s.size * s.size + tap, row * s.outputs + o)
          }
        }
      }
    }
  }
}
