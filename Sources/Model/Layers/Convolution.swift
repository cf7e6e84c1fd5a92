public import Tensor

/// Scratch that the layers of a ResNet share, and their connection to the other ranks.
final class ConvolutionWorkspace<S: Scalar> {
  /// Unfolded rows, or room of primitives; and the weight and its gradient in the order that unfolded rows need.
  fileprivate let columns = MatrixOperandBuffer<S>()
  fileprivate let (kernel, roundedKernel, kernelGradient) = (Buffer<S>(), BFloat16Buffer(), Buffer<S>())
  fileprivate let shortcut = MatrixOperandBuffer<S>()
  /// Gradients between the layers of a block, and between blocks, where each gradient has two parts.
  let wide = MatrixOperandBuffer<S>()
  let narrow = (MatrixOperandBuffer<S>(), MatrixOperandBuffer<S>())
  let blocks = (MatrixOperandBuffer<S>(), MatrixOperandBuffer<S>())
  let statistics = BatchStatistics<S>()
  let precision: ComputePrecision
  init(_ precision: ComputePrecision = .fp32) { self.precision = precision }
}

/// A convolution without bias, of 1 × 1 or of 3 × 3 with a border of one zero, over points with channels last.
public struct Convolution<S: Scalar> {
  /// [outputs, inputs, size, size].
  public let weight: Parameter<S>
  public let stride: Int
  private let workspace: ConvolutionWorkspace<S>
  var outputs: Int { weight.shape[0] }
  var inputs: Int { weight.shape[1] }
  private var isPoint: Bool { weight.shape[2] == 1 }

  init(
    _ store: ParameterStore<S>, name: String, inputs: Int, outputs: Int, size: Int, stride: Int = 1,
    workspace: ConvolutionWorkspace<S> = ConvolutionWorkspace()
  ) {
    (self.stride, self.workspace) = (stride, workspace)
    weight = store.declare(
      "\(name).weight", Shape(outputs, inputs, size, size), .uniform(1 / Double(inputs * size * size).squareRoot()),
      isOperand: true)
  }

  private func sizes(_ plane: Plane) -> ConvolutionSizes {
    ConvolutionSizes(plane, inputs: inputs, outputs: outputs, size: weight.shape[2], stride: stride)
  }

  func output(_ plane: Plane) -> Plane { sizes(plane).output }

  /// x [points, inputs] → y [output points, outputs]. Calls `finish` with rows of y that are complete, while they are
  /// in the cache if that can be, and with the number of them that a thread takes at least.
  func forward(
    _ x: MatrixOperand<S>, _ plane: Plane, into y: MatrixOperand<S>,
    finish: ((_ rows: Range<Int>, _ grain: Int) -> Void)? = nil
  ) {
    let sizes = sizes(plane)
    if case (.fp32(let x), .fp32(let y)) = (x, y), sizes.usesPrimitive(S.self) {
      return convolve(x, weight.value, sizes, into: y, room: workspace.columns, finish: finish)
    }
    if isPoint {
      let kernel = weight.operand(like: x).reshaped(Shape(outputs, inputs))
      matmul(whole: x, kernel, into: y, transposeB: true)
      finish?(0..<y.rows, 64)
      return
    }
    let unrounded = workspace.kernel.tensor(Shape(outputs, 9 * inputs))
    forwardKernel(weight.value, into: unrounded)
    let kernel = workspace.roundedKernel.operand(unrounded, x.precision)
    forEachGroup(x, plane, stride: stride) {
      matmul(whole: $0, kernel, into: y.rows($1), transposeB: true)
      finish?($1, 64)
    }
  }

  /// Adds to the weight's gradient, and writes dx unless it is nil.
  func backward(_ dy: MatrixOperand<S>, x: MatrixOperand<S>, _ plane: Plane, dx: MatrixOperand<S>?) {
    if isPoint {
      let flat = Shape(outputs, inputs)
      matmul(whole: dy, x, into: .fp32(weight.gradient.reshaped(flat)), transposeA: true, accumulate: true)
      if let dx { matmul(whole: dy, weight.kept(like: x).reshaped(flat), into: dx) }
      return
    }
    let gradient = workspace.kernelGradient.tensor(Shape(outputs, 9 * inputs))
    fill(gradient, 0)
    forEachGroup(x, plane, stride: stride) {
      matmul(whole: dy.rows($1), $0, into: .fp32(gradient), transposeA: true, accumulate: true)
    }
    addKernel(gradient, to: weight.gradient)
    guard let dx else { return }
    let sizes = sizes(plane)
    if case (.fp32(let dy), .fp32(let dx)) = (dy, dx), sizes.usesPrimitive(S.self, isBackward: true) {
      return convolveBackward(dy, weight.value, sizes, into: dx, room: workspace.columns)
    }
    precondition(stride == 1, "the gradient of the input of a convolution that moves by \(stride)")
    let unrounded = workspace.kernel.tensor(Shape(9 * outputs, inputs))
    backwardKernel(weight.value, into: unrounded)
    let kernel = workspace.roundedKernel.operand(unrounded, dy.precision)
    forEachGroup(dy, plane, stride: 1) { matmul(whole: $0, kernel, into: dx.rows($1)) }
  }

  /// Calls `body` with the unfolded rows of a few lines at a time, and the output rows to which they belong.
  private func forEachGroup(
    _ x: MatrixOperand<S>, _ plane: Plane, stride: Int, _ body: (MatrixOperand<S>, Range<Int>) -> Void
  ) {
    let output = plane.convolved(stride: stride)
    for lines in lineGroups(output, channels: x.columns) {
      let rows = lines.lowerBound * output.width..<lines.upperBound * output.width
      let columns = workspace.columns.operand(Shape(rows.count, 9 * x.columns), x.precision)
      Profile.measure(\.unfolding) { unfold(x, plane, stride: stride, lines: lines, into: columns) }
      body(columns, rows)
    }
  }
}

/// Returns the output lines of a 3 × 3 convolution over all images, in groups that differ by at most one line: enough
/// for an efficient product, and otherwise few enough that their unfolded rows stay in the cache.
func lineGroups(_ output: Plane, channels: Int) -> some BidirectionalCollection<Range<Int>> {
  let lines = output.images * output.height
  let height = max(max(1024, (1 << 18) / (9 * channels)) / max(output.width, 1), 1)
  let groups = (lines + height - 1) / height
  return (0..<groups).lazy.map { $0 * lines / groups..<($0 + 1) * lines / groups }
}

/// A convolution and its batch norm: z = convolution(x), y = f(batchNorm(z) + residual).
struct NormedConvolution<S: Scalar> {
  let convolution: Convolution<S>
  let norm: BatchNorm<S>
  private let workspace: ConvolutionWorkspace<S>

  /// Backward needs, besides the input, z, and y for the layers behind.
  final class Activations {
    let z: MatrixOperandBuffer<S>
    let y: MatrixOperandBuffer<S>
    fileprivate let norm = BatchNorm<S>.Activations()

    /// A buffer that is given is shared with other layers; backward computes its contents again.
    init(z: MatrixOperandBuffer<S>? = nil, y: MatrixOperandBuffer<S>? = nil) {
      (self.z, self.y) = (z ?? MatrixOperandBuffer(), y ?? MatrixOperandBuffer())
    }
  }

  init(
    _ store: ParameterStore<S>, names: (convolution: String, norm: String), channels: (inputs: Int, outputs: Int),
    size: Int, stride: Int = 1, normWeight weight: Initial = .ones, workspace: ConvolutionWorkspace<S>
  ) {
    self.workspace = workspace
    convolution = Convolution(
      store, name: names.convolution, inputs: channels.inputs, outputs: channels.outputs, size: size, stride: stride,
      workspace: workspace)
    norm = BatchNorm(store, name: names.norm, width: channels.outputs, weight: weight, statistics: workspace.statistics)
  }

  private func output(_ plane: Plane) -> Shape { Shape(convolution.output(plane).rows, convolution.outputs) }

  /// Returns y [output points, outputs] = ReLU(batchNorm(convolution(x)) + residual), in a buffer of `activations`, in
  /// which x may lie too if nothing is kept. A shortcut has no ReLU, and lies in the workspace's buffer for it.
  func forward(
    _ x: MatrixOperand<S>, _ plane: Plane, adding residual: MatrixOperand<S>? = nil, isShortcut: Bool = false,
    mode: ForwardMode, activations: Activations
  ) -> MatrixOperand<S> {
    let z = activations.z.operand(output(plane), x.precision)
    let buffer = isShortcut ? workspace.shortcut : activations.y
    let y = mode.keeps || residual != nil ? buffer.operand(z.shape, x.precision) : z
    guard norm.usesRunning(mode) else {
      convolution.forward(x, plane, into: z)
      Profile.measure(\.batchNorm) {
        norm.forward(z, adding: residual, relu: !isShortcut, into: y, mode: mode, activations: activations.norm)
      }
      return y
    }
    // Nothing waits for the batch, so the norm follows each part of z at once.
    let vectors = norm.vectors(of: z, mode: mode, activations: activations.norm)
    convolution.forward(x, plane, into: z) { rows, grain in
      Profile.measure(\.batchNorm) {
        batchNorm(
          z.rows(rows), vectors, adding: residual?.rows(rows), relu: !isShortcut, into: y.rows(rows), grain: grain)
      }
    }
    return y
  }

  @discardableResult
  func convolved(_ x: MatrixOperand<S>, _ plane: Plane, activations: Activations) -> MatrixOperand<S> {
    let z = activations.z.operand(output(plane), x.precision)
    convolution.forward(x, plane, into: z)
    return z
  }

  /// Computes y = ReLU(batchNorm(z)) once more; `plane` has the sizes of the input.
  func normAgain(_ plane: Plane, activations: Activations) -> MatrixOperand<S> {
    let z = activations.z.operand(output(plane), workspace.precision)
    let y = activations.y.operand(z.shape, z.precision)
    Profile.measure(\.batchNorm) { norm.again(z, into: y, activations: activations.norm) }
    return y
  }

  /// Adds to the parameters' gradients and writes those of z, which may be dy, and of x unless that is nil.
  func backward(
    _ dy: MatrixOperand<S>, x: MatrixOperand<S>, _ plane: Plane, mask: BatchNormMask<S> = .recomputed,
    activations: Activations, into gradients: (z: MatrixOperand<S>, x: MatrixOperand<S>?)
  ) {
    let z = activations.z.operand(dy.shape, dy.precision)
    Profile.measure(\.batchNorm) { norm.backward(dy, z: z, mask: mask, activations: activations.norm, dz: gradients.z) }
    convolution.backward(gradients.z, x: x, plane, dx: gradients.x)
  }
}
