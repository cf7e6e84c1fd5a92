import Tensor
import TestSupport
import Testing

/// Unfolded products against a convolution written as six loops, and pools against their definition.
@Suite struct ConvolutionTests {
  struct Sizes: Sendable, CustomTestStringConvertible {
    let (images, height, width, inputs, outputs, stride): (Int, Int, Int, Int, Int, Int)
    var testDescription: String { "\(images) × \(height) × \(width), \(inputs) → \(outputs), stride \(stride)" }
    init(_ images: Int, _ height: Int, _ width: Int, _ inputs: Int, _ outputs: Int, _ stride: Int) {
      (self.images, self.height, self.width) = (images, height, width)
      (self.inputs, self.outputs, self.stride) = (inputs, outputs, stride)
    }
    var plane: Plane { Plane(images: images, height: height, width: width) }
  }

  static let sizes = [
    Sizes(1, 1, 1, 1, 1, 1), Sizes(2, 1, 5, 3, 2, 1), Sizes(1, 7, 1, 2, 3, 2), Sizes(3, 5, 7, 2, 5, 1),
    Sizes(3, 5, 7, 3, 4, 2), Sizes(2, 4, 6, 7, 3, 2), Sizes(1, 2, 2, 1, 2, 2), Sizes(0, 4, 4, 2, 3, 1),
  ]

  /// y[p, oy, ox, o] = Σ x[p, oy·s + ky − 1, ox·s + kx − 1, i] w[o, i, ky, kx].
  private func plain(_ x: [Double], _ w: [Double], _ s: Sizes) -> [Double] {
    let (down, across) = ((s.height - 1) / s.stride + 1, (s.width - 1) / s.stride + 1)
    var y: [Double] = []
    for p in 0..<s.images {
      for oy in 0..<down {
        for ox in 0..<across {
          for o in 0..<s.outputs {
            var sum = 0.0
            for i in 0..<s.inputs {
              for ky in 0..<3 {
                for kx in 0..<3 {
                  let (iy, ix) = (oy * s.stride + ky - 1, ox * s.stride + kx - 1)
                  guard iy >= 0, iy < s.height, ix >= 0, ix < s.width else { continue }
                  sum +=
                    x[((p * s.height + iy) * s.width + ix) * s.inputs + i] * w[((o * s.inputs + i) * 3 + ky) * 3 + kx]
                }
              }
            }
            y.append(sum)
          }
        }
      }
    }
    return y
  }

  @Test(arguments: sizes, [1, 2, 100]) func unfoldedProducts(_ s: Sizes, lines: Int) {
    let output = s.plane.convolved(stride: s.stride)
    let x = Tensor<Double>.random(Shape(s.plane.rows, s.inputs), "x")
    let weight = Tensor<Double>.random(Shape(s.outputs, s.inputs, 3, 3), "weight")
    let kernel = Tensor<Double>(Shape(s.outputs, 9 * s.inputs))
    forwardKernel(weight, into: kernel)
    let y = Tensor<Double>(Shape(output.rows, s.outputs))
    let all = output.images * output.height
    for start in stride(from: 0, to: all, by: lines) {
      let range = start..<min(start + lines, all)
      let columns = Tensor<Double>(Shape(range.count * output.width, 9 * s.inputs))
      for index in 0..<columns.count { columns[index] = .nan }
      unfold(.fp32(x), s.plane, stride: s.stride, lines: range, into: .fp32(columns))
      matmul(
        columns, kernel, into: y.rows(range.lowerBound * output.width..<range.upperBound * output.width),
        transposeB: true)
    }
    let deviation = Deviation(y.array, from: plain(x.array, weight.array, s))
    #expect(deviation.absolute <= Double(9 * s.inputs + 2) * 9 * Double(s.inputs) * Double.roundoff, "\(deviation)")
  }

  /// Unfolding rounded numbers gives the same as rounding unfolded ones.
  @Test(arguments: sizes) func unfoldsWhatWasRounded(_ s: Sizes) {
    let output = s.plane.convolved(stride: s.stride)
    let x = Tensor<Float>.random(Shape(s.plane.rows, s.inputs), "x")
    let shape = Shape(output.rows, 9 * s.inputs)
    let lines = 0..<output.images * output.height
    let columns = Tensor<Float>(shape)
    unfold(.fp32(x), s.plane, stride: s.stride, lines: lines, into: .fp32(columns))
    let (before, after) = (BFloat16Buffer().operand(x, .bf16), BFloat16Buffer().operand(columns, .bf16))
    let room = MatrixOperandBuffer<Float>()
    // Fill it with other bits first, as in memory that is reused.
    let dirty = Tensor<Float>(shape)
    for index in 0..<dirty.count { dirty[index] = 7 }
    let unfolded = room.operand(shape, .bf16)
    if case .bf16(let dirtied) = unfolded { round(dirty, into: dirtied) }
    unfold(before, s.plane, stride: s.stride, lines: lines, into: unfolded)
    guard case .bf16(let found) = unfolded, case .bf16(let expected) = after else {
      Issue.record("not rounded")
      return
    }
    #expect(found.array == expected.array && found.array.count == shape.count)
  }

  /// The backward kernel has the taps in reverse order, and `addKernel` adds each weight once.
  @Test func kernelsHoldTheSameWeights() {
    let weight = Tensor<Float>.random(Shape(3, 5, 3, 3), "weight")
    let (forward, backward) = (Tensor<Float>(Shape(3, 45)), Tensor<Float>(Shape(27, 5)))
    forwardKernel(weight, into: forward)
    backwardKernel(weight, into: backward)
    for o in 0..<3 {
      for i in 0..<5 {
        for tap in 0..<9 {
          let value = weight[(o * 5 + i) * 9 + tap]
          #expect(forward[(o * 9 + tap) * 5 + i] == value && backward[((8 - tap) * 3 + o) * 5 + i] == value)
        }
      }
    }
    let gradient = Tensor<Float>(weight.shape, weight.array)
    addKernel(forward, to: gradient)
    #expect(gradient.array == weight.array.map { 2 * $0 })
  }

  @Test func channelsComeLast() {
    let images = Tensor<Float>(Shape(2, 3, 2, 2), (0..<24).map(Float.init))
    let rows = Tensor<Float>(Shape(8, 3))
    channelsLast(images, into: rows)
    #expect(rows.rows(0..<1).array == [0, 4, 8] && rows.rows(3..<4).array == [3, 7, 11])
    #expect(rows.rows(5..<6).array == [13, 17, 21])
  }

  @Test(arguments: [(1, 2, 2, 1), (2, 3, 5, 3), (3, 4, 6, 2), (2, 1, 4, 2), (1, 5, 1, 3)])
  func averagePoolAndItsGradient(images: Int, height: Int, width: Int, channels: Int) {
    let plane = Plane(images: images, height: height, width: width)
    let x = Tensor<Double>.random(Shape(plane.rows, channels), "x")
    let y = Tensor<Double>(Shape(plane.halved.rows, channels))
    averagePool(.fp32(x), plane, into: .fp32(y))
    let dy = Tensor<Double>.random(y.shape, "dy")
    let dx = Tensor<Double>(x.shape)
    for index in 0..<dx.count { dx[index] = .nan }
    averagePoolBackward(.fp32(dy), plane, into: .fp32(dx))
    var expected = [Double](repeating: 0, count: x.count)
    for p in 0..<images {
      for oy in 0..<height / 2 {
        for ox in 0..<width / 2 {
          for c in 0..<channels {
            let out = ((p * (height / 2) + oy) * (width / 2) + ox) * channels + c
            let places = [(0, 0), (0, 1), (1, 0), (1, 1)].map { down, right in
              ((p * height + 2 * oy + down) * width + 2 * ox + right) * channels + c
            }
            let mean = places.reduce(0) { $0 + x[$1] } / 4
            #expect(abs(y[out] - mean) <= 4 * Double.roundoff)
            for place in places { expected[place] = dy[out] / 4 }
          }
        }
      }
    }
    #expect(dx.array == expected)
  }
}
