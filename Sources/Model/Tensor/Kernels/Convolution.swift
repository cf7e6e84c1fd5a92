import Foundation

// b pictures, c channels; rows are channels last (see Plane). A 3 × 3 convolution is a matrix product of unfolded rows
// with the weight in the order [out, ky, kx, in].

/// Unfolds some lines of what a 3 × 3 convolution gives: columns[point, ky, kx, :] = x[y · stride + ky − 1,
/// x · stride + kx − 1, :], zero beyond the border, so that one matrix product with the weight is the convolution.
///
/// `lines` counts the output's lines over all pictures; columns have [lines.count · output width, 9c]. Both are exact
/// or both rounded: nine copies of a number that was rounded before are cheaper than nine roundings.
public func unfold<S: Scalar>(
  _ x: Operand<S>, _ plane: Plane, stride: Int, lines: Range<Int>, into columns: Operand<S>
) {
  let output = plane.convolved(stride: stride)
  precondition(
    x.rows == plane.rows && lines.lowerBound >= 0 && lines.upperBound <= output.lines
      && columns.rows == lines.count * output.width && columns.columns == 9 * x.columns,
    "\(x.shape), \(plane), lines \(lines) into \(columns.shape)")
  switch (x, columns) {
  case (.exact(let x), .exact(let columns)):
    unfold(x.pointer, x.columns * MemoryLayout<S>.stride, plane, stride, lines, into: columns.pointer)
  case (.rounded(let x), .rounded(let columns)):
    unfold(x.pointer, x.columns * MemoryLayout<UInt16>.stride, plane, stride, lines, into: columns.pointer)
  default: preconditionFailure("an exact and a rounded matrix: \(x.shape) into \(columns.shape)")
  }
}

/// Points of so many bytes, whatever the numbers in them: zero is all bits zero. The three taps of a line lie side by
/// side in x, so they are copied together.
private func unfold(
  _ source: UnsafeRawPointer, _ point: Int, _ plane: Plane, _ stride: Int, _ lines: Range<Int>,
  into target: UnsafeMutableRawPointer
) {
  let output = plane.convolved(stride: stride)
  Threads.split(lines.count, grain: 4) { _, part in
    for index in part {
      let (picture, line) = (lines.lowerBound + index).quotientAndRemainder(dividingBy: output.height)
      for ky in 0..<3 {
        let y = line * stride + ky - 1
        let to = target + (index * output.width * 9 + ky * 3) * point
        guard y >= 0, y < plane.height else {
          for column in 0..<output.width { memset(to + column * 9 * point, 0, 3 * point) }
          continue
        }
        let from = source + (picture * plane.height + y) * plane.width * point
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

/// weight [out, in, 3, 3] → [out, 3, 3, in]: the factor of unfolded inputs.
@specialized(where S == Float)
@specialized(where S == Double)
public func forwardKernel<S: Scalar>(_ weight: Tensor<S>, into kernel: Tensor<S>) {
  forEachTap(of: weight, kernel) { w, k, o, i, tap, inputs, _ in k[(o * 9 + tap) * inputs + i] = w }
}

/// weight [out, in, 3, 3] → [3, 3, out, in] turned around: the factor of unfolded gradients of a convolution of stride
/// 1, which give the gradient of its input.
@specialized(where S == Float)
@specialized(where S == Double)
public func backwardKernel<S: Scalar>(_ weight: Tensor<S>, into kernel: Tensor<S>) {
  forEachTap(of: weight, kernel) { w, k, o, i, tap, inputs, outputs in k[((8 - tap) * outputs + o) * inputs + i] = w }
}

/// gradient [out, in, 3, 3] += kernel [out, 3, 3, in]: the way back from `forwardKernel`.
@specialized(where S == Float)
@specialized(where S == Double)
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

@inline(__always)
private func forEachTap<S: Scalar>(
  of weight: Tensor<S>, _ kernel: Tensor<S>,
  _ body: (S, UnsafeMutablePointer<S>, _ o: Int, _ i: Int, _ tap: Int, _ inputs: Int, _ outputs: Int) -> Void
) {
  precondition(
    weight.shape.rank == 4 && weight.shape[2] == 3 && weight.shape[3] == 3 && kernel.count == weight.count,
    "\(weight.shape) into \(kernel.shape)")
  let (outputs, inputs) = (weight.shape[0], weight.shape[1])
  let (w, k) = (weight.pointer, kernel.pointer)
  Threads.split(outputs, grain: 8) { _, range in
    for o in range {
      for i in 0..<inputs {
        for tap in 0..<9 { body(w[(o * inputs + i) * 9 + tap], k, o, i, tap, inputs, outputs) }
      }
    }
  }
}
