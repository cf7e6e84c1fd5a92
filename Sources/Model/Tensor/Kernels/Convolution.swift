import Foundation

// Rows are points with channels last (see Plane). Unfolded rows meet weights in the order [out, ky, kx, in].

/// The sizes of a convolution without bias: of 1 × 1, or of 3 × 3 with a border of one zero.
public struct ConvolutionSizes: Hashable, Sendable, CustomStringConvertible {
  /// The input's.
  public let plane: Plane
  public let inputs: Int
  public let outputs: Int
  /// The points on each side of the kernel.
  public let size: Int
  public let stride: Int

  public init(_ plane: Plane, inputs: Int, outputs: Int, size: Int, stride: Int = 1) {
    precondition(size == 3 || (size == 1 && stride == 1), "a convolution of size \(size), stride \(stride)")
    (self.plane, self.inputs, self.outputs, self.size, self.stride) = (plane, inputs, outputs, size, stride)
  }

  public var output: Plane { size == 1 ? plane : plane.convolved(stride: stride) }
  public var description: String { "\(size) × \(size) from \(inputs) to \(outputs) channels of \(plane)" }
}

/// Unfolds the input x [plane.rows, c] of a 3 × 3 convolution for some lines of its output, counted over all images:
/// columns[point, ky, kx, :] = x[y · stride + ky − 1, x · stride + kx − 1, :], zero beyond the border. The columns
/// [lines.count · output width, 9c] have x's precision: nine copies of a rounded number cost less than nine roundings.
public func unfold<S: Scalar>(
  _ x: MatrixOperand<S>, _ plane: Plane, stride: Int, lines: Range<Int>, into columns: MatrixOperand<S>
) {
  let output = plane.convolved(stride: stride)
  precondition(
    x.rows == plane.rows && lines.lowerBound >= 0 && lines.upperBound <= output.lines
      && columns.rows == lines.count * output.width && columns.columns == 9 * x.columns,
    "\(x.shape), \(plane), lines \(lines) into \(columns.shape)")
  // Points are copied as bytes, whatever numbers they hold, since zero has no bit set. The three taps of a line are
  // neighbours in x, so they are copied together.
  let (source, target, point) =
    switch (x, columns) {
    case (.fp32(let x), .fp32(let y)): (x.bytes, y.bytes, x.columns * MemoryLayout<S>.stride)
    case (.bf16(let x), .bf16(let y)): (x.bytes, y.bytes, x.columns * MemoryLayout<UInt16>.stride)
    default: preconditionFailure("an fp32 and a bf16 matrix: \(x.shape) into \(columns.shape)")
    }
  Threads.forEach(lines.count, grain: 4) { index in
    let (image, line) = (lines.lowerBound + index).quotientAndRemainder(dividingBy: output.height)
    for ky in 0..<3 {
      let y = line * stride + ky - 1
      let to = target + (index * output.width * 9 + ky * 3) * point
      guard y >= 0, y < plane.height else {
        for column in 0..<output.width { memset(to + column * 9 * point, 0, 3 * point) }
        continue
      }
      let from = source + (image * plane.height + y) * plane.width * point
      for column in 0..<output.width {
        let first = column * stride - 1
        let taps = max(first, 0)..<min(first + 3, plane.width)
        let row = to + column * 9 * point
        if taps.count < 3 { memset(row, 0, 3 * point) }
        memcpy(row + (taps.lowerBound - first) * point, from + taps.lowerBound * point, taps.count * point)
      }
    }
  }
}

/// kernel [out, 3, 3, in] ← weight [out, in, 3, 3]: the factor of unfolded inputs.
@specialized(where S == Float) @specialized(where S == Double)
public func forwardKernel<S: Scalar>(_ weight: Tensor<S>, into kernel: Tensor<S>) {
  let (w, k, inputs) = (weight.pointer, kernel.pointer, weight.shape[1])
  forEachTap(weight, kernel) { at, output, input, tap in k[(output * 9 + tap) * inputs + input] = w[at] }
}

/// kernel [3, 3, out, in] ← weight [out, in, 3, 3] with its taps in reverse order: the factor of the unfolded output
/// gradients of a convolution of stride 1, whose product is the gradient of its input.
@specialized(where S == Float) @specialized(where S == Double)
public func backwardKernel<S: Scalar>(_ weight: Tensor<S>, into kernel: Tensor<S>) {
  let (w, k, outputs, inputs) = (weight.pointer, kernel.pointer, weight.shape[0], weight.shape[1])
  forEachTap(weight, kernel) { at, output, input, tap in k[((8 - tap) * outputs + output) * inputs + input] = w[at] }
}

/// gradient [out, in, 3, 3] += kernel [out, 3, 3, in], in the order of `forwardKernel`.
@specialized(where S == Float) @specialized(where S == Double)
public func addKernel<S: Scalar>(_ kernel: Tensor<S>, to gradient: Tensor<S>) {
  let (k, g, inputs) = (kernel.pointer, gradient.pointer, gradient.shape[1])
  forEachTap(gradient, kernel) { at, output, input, tap in g[at] += k[(output * 9 + tap) * inputs + input] }
}

/// Calls `body` for each number of a weight [out, in, 3, 3], with its index first.
@inline(__always)
private func forEachTap<S: Scalar>(
  _ weight: Tensor<S>, _ kernel: Tensor<S>, _ body: (_ at: Int, _ output: Int, _ input: Int, _ tap: Int) -> Void
) {
  precondition(
    weight.shape.rank == 4 && weight.shape[2] == 3 && weight.shape[3] == 3 && kernel.count == weight.count,
    "\(weight.shape) into \(kernel.shape)")
  let (outputs, inputs) = (weight.shape[0], weight.shape[1])
  Threads.forEach(outputs, grain: 8) { o in
    for i in 0..<inputs { for tap in 0..<9 { body((o * inputs + i) * 9 + tap, o, i, tap) } }
  }
}
