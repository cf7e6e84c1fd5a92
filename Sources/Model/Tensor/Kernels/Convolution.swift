import Foundation

// b images, c channels; rows are points with channels last (see Plane). A 3 × 3 convolution is a matrix product of
// unfolded rows with the weight in the order [out, ky, kx, in].

/// Unfolds the input of a 3 × 3 convolution for some lines of its output, so that one matrix product with the weight is
/// the convolution: columns[point, ky, kx, :] = x[y · stride + ky − 1, x · stride + kx − 1, :], zero beyond the border.
///
/// x is [plane.rows, c]; `lines` counts the output's lines over all images. columns [lines.count · output width, 9c]
/// have the precision of x, because nine copies of a rounded number are cheaper than nine roundings.
public func unfold<S: Scalar>(
  _ x: MatrixOperand<S>, _ plane: Plane, stride: Int, lines: Range<Int>, into columns: MatrixOperand<S>
) {
  let output = plane.convolved(stride: stride)
  precondition(
    x.rows == plane.rows && lines.lowerBound >= 0 && lines.upperBound <= output.lines
      && columns.rows == lines.count * output.width && columns.columns == 9 * x.columns,
    "\(x.shape), \(plane), lines \(lines) into \(columns.shape)")
  switch (x, columns) {
  case (.fp32(let x), .fp32(let columns)):
    unfold(
      x.pointer, bytes: x.columns * MemoryLayout<S>.stride, plane, stride: stride, lines, into: columns.pointer)
  case (.bf16(let x), .bf16(let columns)):
    unfold(
      x.pointer, bytes: x.columns * MemoryLayout<UInt16>.stride, plane, stride: stride, lines, into: columns.pointer)
  default: preconditionFailure("an fp32 and a bf16 matrix: \(x.shape) into \(columns.shape)")
  }
}

/// Copies points of `bytes` bytes, whatever numbers they hold, since zero has no bit set. The three taps of a line are
/// neighbours in x, so they are copied together.
private func unfold(
  _ source: UnsafeRawPointer, bytes point: Int, _ plane: Plane, stride: Int, _ lines: Range<Int>,
  into target: UnsafeMutableRawPointer
) {
  let output = plane.convolved(stride: stride)
  Threads.split(lines.count, grain: 4) { _, part in
    for index in part {
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
}

/// kernel [out, 3, 3, in] ← weight [out, in, 3, 3]: the factor of unfolded inputs.
@specialized(where S == Float) @specialized(where S == Double)
public func forwardKernel<S: Scalar>(_ weight: Tensor<S>, into kernel: Tensor<S>) {
  let inputs = weight.shape[1]
  permute(weight, into: kernel) { output, input, tap in (output * 9 + tap) * inputs + input }
}

/// kernel [3, 3, out, in] ← weight [out, in, 3, 3] with its taps in reverse order: the factor of the unfolded output
/// gradients of a convolution of stride 1, whose product is the gradient of its input.
@specialized(where S == Float) @specialized(where S == Double)
public func backwardKernel<S: Scalar>(_ weight: Tensor<S>, into kernel: Tensor<S>) {
  let (outputs, inputs) = (weight.shape[0], weight.shape[1])
  permute(weight, into: kernel) { output, input, tap in ((8 - tap) * outputs + output) * inputs + input }
}

/// gradient [out, in, 3, 3] += kernel [out, 3, 3, in], in the order of `forwardKernel`.
@specialized(where S == Float) @specialized(where S == Double)
public func addKernel<S: Scalar>(_ kernel: Tensor<S>, to gradient: Tensor<S>) {
  precondition(kernel.count == gradient.count, "\(kernel.shape) to \(gradient.shape)")
  let (outputs, inputs) = (gradient.shape[0], gradient.shape[1])
  let (k, g) = (kernel.pointer, gradient.pointer)
  Threads.split(outputs, grain: 8) { _, range in
    for o in range {
      for i in 0..<inputs {
        for tap in 0..<9 { g[(o * inputs + i) * 9 + tap] += k[(o * 9 + tap) * inputs + i] }
      }
    }
  }
}

/// Copies each number of a weight [out, in, 3, 3] to the index of the kernel that `index` returns for it.
@inline(__always)
private func permute<S: Scalar>(
  _ weight: Tensor<S>, into kernel: Tensor<S>, _ index: (_ output: Int, _ input: Int, _ tap: Int) -> Int
) {
  precondition(
    weight.shape.rank == 4 && weight.shape[2] == 3 && weight.shape[3] == 3 && kernel.count == weight.count,
    "\(weight.shape) into \(kernel.shape)")
  let (outputs, inputs) = (weight.shape[0], weight.shape[1])
  let (w, k) = (weight.pointer, kernel.pointer)
  Threads.split(outputs, grain: 8) { _, range in
    for o in range {
      for i in 0..<inputs {
        for tap in 0..<9 { k[index(o, i, tap)] = w[(o * inputs + i) * 9 + tap] }
      }
    }
  }
}
