public import Tensor

/// Scratch that the layers of a ResNet share, and their connection to the other ranks.
final class ConvolutionWorkspace<S: Scalar> {
  /// Unfolded rows, and the weight and its gradient in the order that they need.
  let columns = MatrixOperandBuffer<S>()
  let kernel = Buffer<S>()
  let roundedKernel = BFloat16Buffer()
  let kernelGradient = Buffer<S>()
  /// The output of a block's shortcut.
  let shortcut = MatrixOperandBuffer<S>()
  /// Gradients between the layers of a block, and between blocks, where each gradient has two parts.
  let wide = MatrixOperandBuffer<S>()
  let narrow = (MatrixOperandBuffer<S>(), MatrixOperandBuffer<S>())
  let blocks = [MatrixOperandBuffer<S>(), MatrixOperandBuffer<S>()]
  let statistics = BatchStatistics<S>()
  /// The precision of all matrices that products read.
  let precision: ComputePrecision

  init(_ precision: ComputePrecision = .fp32) { self.precision = precision }
}

/// A convolution without bias, of 1 × 1 or of 3 × 3 with a border of one zero, over points with channels last.
public struct Convolution<S: Scalar> {
  /// [outputs, inputs, size, size].
  public let weight: Parameter<S>
  public let stride: Int

  var outputs: Int { weight.shape[0] }
  var inputs: Int { weight.shape[1] }
  private var isPoint: Bool { weight.shape[2] == 1 }

  /// Declares the weight, with the initial values of PyTorch's convolutions.
  init(_ store: ParameterStore<S>, name: String, inputs: Int, outputs: Int, size: Int, stride: Int = 1) {
    precondition(size == 3 || (size == 1 && stride == 1), "a convolution of size \(size), stride \(stride)")
    self.stride = stride
    weight = store.declare(
      "\(name).weight", Shape(outputs, inputs, size, size), .uniform(1 / Double(inputs * size * size).squareRoot()))
  }

  /// Returns the sizes of the output.
  func output(_ plane: Plane) -> Plane { isPoint ? plane : plane.convolved(stride: stride) }

  /// x [points, inputs] → y [output points, outputs].
  func forward(_ x: MatrixOperand<S>, _ plane: Plane, into y: MatrixOperand<S>, workspace: ConvolutionWorkspace<S>) {
    if isPoint {
      let kernel = weight.operand(like: x).reshaped(Shape(outputs, inputs))
      return matmul(whole: x, kernel, into: y, transposeB: true)
    }
    let unrounded = workspace.kernel.tensor(Shape(outputs, 9 * inputs))
    forwardKernel(weight.value, into: unrounded)
    let kernel = workspace.roundedKernel.operand(unrounded, x.precision)
    forEachGroup(x, plane, stride: stride, workspace) { columns, rows in
      matmul(whole: columns, kernel, into: y.rows(rows), transposeB: true)
    }
  }

  /// Adds to the weight's gradient, and writes dx unless it is nil.
  func backward(
    _ dy: MatrixOperand<S>, x: MatrixOperand<S>, _ plane: Plane, dx: MatrixOperand<S>?,
    workspace: ConvolutionWorkspace<S>
  ) {
    if isPoint {
      let flat = Shape(outputs, inputs)
      matmul(whole: dy, x, into: .fp32(weight.gradient.reshaped(flat)), transposeA: true, accumulate: true)
      if let dx { matmul(whole: dy, weight.kept(like: x).reshaped(flat), into: dx) }
      return
    }
    let gradient = workspace.kernelGradient.tensor(Shape(outputs, 9 * inputs))
    fill(gradient, 0)
    forEachGroup(x, plane, stride: stride, workspace) { columns, rows in
      matmul(whole: dy.rows(rows), columns, into: .fp32(gradient), transposeA: true, accumulate: true)
    }
    addKernel(gradient, to: weight.gradient)
    guard let dx else { return }
    precondition(stride == 1, "the gradient of the input of a convolution that moves by \(stride)")
    let unrounded = workspace.kernel.tensor(Shape(9 * outputs, inputs))
    backwardKernel(weight.value, into: unrounded)
    let kernel = workspace.roundedKernel.operand(unrounded, dy.precision)
    forEachGroup(dy, plane, stride: 1, workspace) { columns, rows in
      matmul(whole: columns, kernel, into: dx.rows(rows))
    }
  }

  /// Calls `body` with the unfolded rows of a few lines at a time, and the output rows to which they belong.
  private func forEachGroup(
    _ x: MatrixOperand<S>, _ plane: Plane, stride: Int, _ workspace: ConvolutionWorkspace<S>,
    _ body: (_ columns: MatrixOperand<S>, _ rows: Range<Int>) -> Void
  ) {
    let output = plane.convolved(stride: stride)
    for lines in LineGroups(output, channels: x.columns) {
      let rows = lines.lowerBound * output.width..<lines.upperBound * output.width
      let columns = workspace.columns.operand(Shape(rows.count, 9 * x.columns), x.precision)
      Profile.measure(\.unfolding) { unfold(x, plane, stride: stride, lines: lines, into: columns) }
      body(columns, rows)
    }
  }
}

/// The output lines of a 3 × 3 convolution over all images, in groups that differ by at most one line: enough for an
/// efficient product, and otherwise few enough that their unfolded rows stay in the cache.
struct LineGroups: Sequence, IteratorProtocol {
  private let lines: Int
  private let groups: Int
  private var group = 0

  init(_ output: Plane, channels: Int) {
    lines = output.images * output.height
    let height = Swift.max(Swift.max(1024, (1 << 18) / (9 * channels)) / Swift.max(output.width, 1), 1)
    groups = (lines + height - 1) / height
  }

  /// The number of lines in the largest group.
  var height: Int { groups == 0 ? 0 : (lines + groups - 1) / groups }

  mutating func next() -> Range<Int>? {
    guard group < groups else { return nil }
    defer { group += 1 }
    return group * lines / groups..<(group + 1) * lines / groups
  }
}

/// A convolution and its batch norm: z = convolution(x), y = f(batchNorm(z) + residual).
struct NormedConvolution<S: Scalar> {
  let convolution: Convolution<S>
  let norm: BatchNorm<S>

  /// Backward needs, besides the input, z, and y for the layers behind.
  final class Activations {
    let z: MatrixOperandBuffer<S>
    let y: MatrixOperandBuffer<S>
    let norm = BatchNorm<S>.Activations()

    /// A buffer that is given is shared with other layers; backward computes its contents again.
    init(z: MatrixOperandBuffer<S>? = nil, y: MatrixOperandBuffer<S>? = nil) {
      self.z = z ?? MatrixOperandBuffer()
      self.y = y ?? MatrixOperandBuffer()
    }
  }

  init(
    _ store: ParameterStore<S>, names: (convolution: String, norm: String), inputs: Int, outputs: Int, size: Int,
    stride: Int = 1, normWeight: Initial = .ones
  ) {
    convolution = Convolution(
      store, name: names.convolution, inputs: inputs, outputs: outputs, size: size, stride: stride)
    norm = BatchNorm(store, name: names.norm, width: outputs, weight: normWeight)
  }

  private func output(_ plane: Plane) -> Shape { Shape(convolution.output(plane).rows, convolution.outputs) }

  /// Returns y [output points, outputs] = ReLU(batchNorm(convolution(x)) + residual), in a buffer of `activations`, in
  /// which x may lie too if nothing is kept. A shortcut has no ReLU, and lies in the workspace's buffer for it.
  func forward(
    _ x: MatrixOperand<S>, _ plane: Plane, adding residual: MatrixOperand<S>? = nil, isShortcut: Bool = false,
    mode: ForwardMode, activations: Activations, workspace: ConvolutionWorkspace<S>
  ) -> MatrixOperand<S> {
    let z = activations.z.operand(output(plane), x.precision)
    convolution.forward(x, plane, into: z, workspace: workspace)
    let buffer = isShortcut ? workspace.shortcut : activations.y
    let y = mode.keeps || residual != nil ? buffer.operand(output(plane), x.precision) : z
    Profile.measure(\.batchNorm) {
      norm.forward(
        z, adding: residual, relu: !isShortcut, into: y, mode: mode, activations: activations.norm,
        statistics: workspace.statistics)
    }
    return y
  }

  /// Computes z once more.
  func convolveAgain(
    _ x: MatrixOperand<S>, _ plane: Plane, activations: Activations, workspace: ConvolutionWorkspace<S>
  ) {
    convolution.forward(x, plane, into: activations.z.operand(output(plane), x.precision), workspace: workspace)
  }

  /// Computes y = ReLU(batchNorm(z)) once more; `plane` has the sizes of the input.
  func normAgain(_ plane: Plane, activations: Activations, _ precision: ComputePrecision) -> MatrixOperand<S> {
    let y = activations.y.operand(output(plane), precision)
    Profile.measure(\.batchNorm) {
      norm.again(activations.z.operand(output(plane), precision), into: y, activations: activations.norm)
    }
    return y
  }

  /// Adds to the parameters' gradients and writes those of z, which may be dy, and of x unless that is nil.
  func backward(
    _ dy: MatrixOperand<S>, x: MatrixOperand<S>, _ plane: Plane, mask: BatchNormMask<S> = .recomputed,
    activations: Activations, into gradients: (z: MatrixOperand<S>, x: MatrixOperand<S>?),
    workspace: ConvolutionWorkspace<S>
  ) {
    Profile.measure(\.batchNorm) {
      norm.backward(
        dy, z: activations.z.operand(dy.shape, dy.precision), mask: mask, activations: activations.norm,
        dz: gradients.z, statistics: workspace.statistics)
    }
    convolution.backward(gradients.z, x: x, plane, dx: gradients.x, workspace: workspace)
  }
}
