public import Tensor

/// Scratch that the layers of a ResNet share, and their way to the other ranks.
final class ConvolutionWorkspace<S: Scalar> {
  /// Unfolded rows, and the weight and its gradient in their order.
  let columns = OperandBuffer<S>()
  let kernel = Buffer<S>()
  let kernelGradient = Buffer<S>()
  /// A block's shortcut.
  let shortcut = Buffer<S>()
  /// Gradients between the layers of a block, and of blocks.
  let wide = Buffer<S>()
  let narrow = (Buffer<S>(), Buffer<S>())
  let blocks = [Buffer<S>(), Buffer<S>()]
  let statistics = BatchStatistics<S>()
  /// How products read their operands, and those that are rounded for one product or two.
  let precision: Precision
  let rounding = (input: RoundedBuffer(), other: RoundedBuffer())

  init(_ precision: Precision = .fp32) { self.precision = precision }
}

/// A convolution without bias of 1 × 1, or of 3 × 3 with a border of one zero, over rows with channels last.
public struct Convolution<S: Scalar> {
  /// [outputs, inputs, size, size].
  public let weight: Parameter<S>
  public let stride: Int

  var outputs: Int { weight.shape[0] }
  var inputs: Int { weight.shape[1] }
  private var isPoint: Bool { weight.shape[2] == 1 }

  /// Starts as PyTorch's convolutions do.
  init(_ store: ParameterStore<S>, name: String, inputs: Int, outputs: Int, size: Int, stride: Int = 1) {
    precondition(size == 3 || (size == 1 && stride == 1), "a convolution of size \(size), stride \(stride)")
    self.stride = stride
    weight = store.declare(
      "\(name).weight", Shape(outputs, inputs, size, size), .uniform(1 / Double(inputs * size * size).squareRoot()))
  }

  /// The points that come out.
  func output(_ plane: Plane) -> Plane { isPoint ? plane : plane.convolved(stride: stride) }

  /// x [points, inputs] → y [points that come out, outputs].
  func forward(_ x: Tensor<S>, _ plane: Plane, into y: Tensor<S>, workspace: ConvolutionWorkspace<S>) {
    let input = workspace.rounding.input.operand(x, workspace.precision)
    if isPoint {
      return matmul(input, weight.operand(like: input).reshaped(Shape(outputs, inputs)), into: y, transposeB: true)
    }
    let unrounded = workspace.kernel.tensor(Shape(outputs, 9 * inputs))
    forwardKernel(weight.value, into: unrounded)
    let kernel = workspace.rounding.other.operand(unrounded, workspace.precision)
    forEachGroup(input, plane, stride: stride, workspace) { columns, rows in
      matmul(columns, kernel, into: y.rows(rows), transposeB: true)
    }
  }

  /// Adds to the weight's gradient; writes dx, or adds to it, where it is wanted.
  func backward(
    _ dy: Tensor<S>, x: Tensor<S>, _ plane: Plane, dx: Tensor<S>?, adding: Bool = false,
    workspace: ConvolutionWorkspace<S>
  ) {
    let slope = workspace.rounding.other.operand(dy, workspace.precision)
    let input = workspace.rounding.input.operand(x, workspace.precision)
    if isPoint {
      let flat = Shape(outputs, inputs)
      matmul(slope, input, into: weight.gradient.reshaped(flat), transposeA: true, accumulate: true)
      if let dx { matmul(slope, weight.kept(like: input).reshaped(flat), into: dx, accumulate: adding) }
      return
    }
    let gradient = workspace.kernelGradient.tensor(Shape(outputs, 9 * inputs))
    fill(gradient, 0)
    forEachGroup(input, plane, stride: stride, workspace) { columns, rows in
      matmul(slope.rows(rows), columns, into: gradient, transposeA: true, accumulate: true)
    }
    addKernel(gradient, to: weight.gradient)
    guard let dx else { return }
    precondition(stride == 1, "the gradient of the input of a convolution that moves by \(stride)")
    let unrounded = workspace.kernel.tensor(Shape(9 * outputs, inputs))
    backwardKernel(weight.value, into: unrounded)
    // In the input's place, which is not needed any more.
    let kernel = workspace.rounding.input.operand(unrounded, workspace.precision)
    forEachGroup(slope, plane, stride: 1, workspace) { columns, rows in
      matmul(columns, kernel, into: dx.rows(rows), accumulate: adding)
    }
  }

  /// Lends the unfolded rows of some lines at a time, with the rows of what comes out to which they belong: so many that
  /// the product is worth its while, and otherwise few enough to stay in the cache.
  private func forEachGroup(
    _ x: Operand<S>, _ plane: Plane, stride: Int, _ workspace: ConvolutionWorkspace<S>,
    _ body: (_ columns: Operand<S>, _ rows: Range<Int>) -> Void
  ) {
    let output = plane.convolved(stride: stride)
    let lines = output.pictures * output.height
    let height = max(max(1024, (1 << 18) / (9 * x.columns)) / max(output.width, 1), 1)
    for start in Swift.stride(from: 0, to: lines, by: height) {
      let group = start..<min(start + height, lines)
      let rows = group.lowerBound * output.width..<group.upperBound * output.width
      let columns = workspace.columns.operand(Shape(rows.count, 9 * x.columns), x.precision)
      Profile.measure(\.unfolding) { unfold(x, plane, stride: stride, lines: group, into: columns) }
      body(columns, rows)
    }
  }
}

/// A convolution and its batch norm: z = convolution(x), y = f(batchNorm(z) + residual).
struct NormedConvolution<S: Scalar> {
  let convolution: Convolution<S>
  let norm: BatchNorm<S>

  /// What backward needs beside the input: z, and y for those after it.
  final class Saved {
    let z: Buffer<S>
    let y: Buffer<S>
    let norm = BatchNorm<S>.Saved()

    /// What is made again has its place in memory that others use too.
    init(z: Buffer<S>? = nil, y: Buffer<S>? = nil) {
      self.z = z ?? Buffer()
      self.y = y ?? Buffer()
    }
  }

  init(
    _ store: ParameterStore<S>, convolution: String, norm: String, inputs: Int, outputs: Int, size: Int,
    stride: Int = 1, normWeight: Initial = .ones
  ) {
    self.convolution = Convolution(
      store, name: convolution, inputs: inputs, outputs: outputs, size: size, stride: stride)
    self.norm = BatchNorm(store, name: norm, width: outputs, weight: normWeight)
  }

  /// y, in the given buffer or one of `saved`; x may lie in that very buffer where nothing is kept.
  func forward(
    _ x: Tensor<S>, _ plane: Plane, adding residual: Tensor<S>? = nil, relu: Bool = true, into buffer: Buffer<S>? = nil,
    mode: ForwardMode, saved: Saved, workspace: ConvolutionWorkspace<S>
  ) -> Tensor<S> {
    let shape = Shape(convolution.output(plane).rows, convolution.outputs)
    let z = saved.z.tensor(shape)
    convolution.forward(x, plane, into: z, workspace: workspace)
    let y = mode.keeps || residual != nil ? (buffer ?? saved.y).tensor(shape) : z
    Profile.measure(\.batchNorm) {
      norm.forward(
        z, adding: residual, relu: relu, into: y, mode: mode, saved: saved.norm, statistics: workspace.statistics)
    }
    return y
  }

  /// z once more.
  func convolveAgain(_ x: Tensor<S>, _ plane: Plane, saved: Saved, workspace: ConvolutionWorkspace<S>) {
    let z = saved.z.tensor(Shape(convolution.output(plane).rows, convolution.outputs))
    convolution.forward(x, plane, into: z, workspace: workspace)
  }

  /// y = ReLU(batchNorm(z)) once more, of x in `plane`.
  func normAgain(_ plane: Plane, saved: Saved) -> Tensor<S> {
    let shape = Shape(convolution.output(plane).rows, convolution.outputs)
    let y = saved.y.tensor(shape)
    Profile.measure(\.batchNorm) { norm.again(saved.z.tensor(shape), into: y, saved: saved.norm) }
    return y
  }

  /// Adds to the parameters' gradients; dz [as dy] becomes the gradient of z (and may be dy), dx is written or added to.
  func backward(
    _ dy: Tensor<S>, x: Tensor<S>, _ plane: Plane, mask: BatchNormMask<S> = .recomputed, saved: Saved, dz: Tensor<S>,
    dx: Tensor<S>?, adding: Bool = false, workspace: ConvolutionWorkspace<S>
  ) {
    Profile.measure(\.batchNorm) {
      norm.backward(
        dy, z: saved.z.tensor(dy.shape), mask: mask, saved: saved.norm, dz: dz, statistics: workspace.statistics)
    }
    convolution.backward(dz, x: x, plane, dx: dx, adding: adding, workspace: workspace)
  }
}
