public import Tensor

/// Scratch that the layers of a ResNet share, and their way to the other ranks.
final class ConvolutionWorkspace<S: Scalar> {
  /// Unfolded rows, and the weight and its gradient in their order.
  let columns = OperandBuffer<S>()
  let kernel = Buffer<S>()
  let roundedKernel = RoundedBuffer()
  let kernelGradient = Buffer<S>()
  /// A block's shortcut.
  let shortcut = OperandBuffer<S>()
  /// Gradients between the layers of a block, and of blocks: there of both ways that lead back from a block's input.
  let wide = OperandBuffer<S>()
  let narrow = (OperandBuffer<S>(), OperandBuffer<S>())
  let blocks = [OperandBuffer<S>(), OperandBuffer<S>()]
  let statistics = BatchStatistics<S>()
  /// How all that products read is kept.
  let precision: Precision

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
  func forward(_ x: Operand<S>, _ plane: Plane, into y: Operand<S>, workspace: ConvolutionWorkspace<S>) {
    if isPoint {
      let kernel = weight.operand(like: x).reshaped(Shape(outputs, inputs))
      return matmul(x, kernel, into: y, transposeB: true, inPieces: false)
    }
    let unrounded = workspace.kernel.tensor(Shape(outputs, 9 * inputs))
    forwardKernel(weight.value, into: unrounded)
    let kernel = workspace.roundedKernel.operand(unrounded, x.precision)
    forEachGroup(x, plane, stride: stride, workspace) { columns, rows in
      matmul(columns, kernel, into: y.rows(rows), transposeB: true, inPieces: false)
    }
  }

  /// Adds to the weight's gradient; writes dx, where it is wanted.
  func backward(
    _ dy: Operand<S>, x: Operand<S>, _ plane: Plane, dx: Operand<S>?, workspace: ConvolutionWorkspace<S>
  ) {
    if isPoint {
      let flat = Shape(outputs, inputs)
      matmul(
        dy, x, into: .exact(weight.gradient.reshaped(flat)), transposeA: true, accumulate: true, inPieces: false)
      if let dx { matmul(dy, weight.kept(like: x).reshaped(flat), into: dx, inPieces: false) }
      return
    }
    let gradient = workspace.kernelGradient.tensor(Shape(outputs, 9 * inputs))
    fill(gradient, 0)
    forEachGroup(x, plane, stride: stride, workspace) { columns, rows in
      matmul(dy.rows(rows), columns, into: .exact(gradient), transposeA: true, accumulate: true, inPieces: false)
    }
    addKernel(gradient, to: weight.gradient)
    guard let dx else { return }
    precondition(stride == 1, "the gradient of the input of a convolution that moves by \(stride)")
    let unrounded = workspace.kernel.tensor(Shape(9 * outputs, inputs))
    backwardKernel(weight.value, into: unrounded)
    let kernel = workspace.roundedKernel.operand(unrounded, dy.precision)
    forEachGroup(dy, plane, stride: 1, workspace) { columns, rows in
      matmul(columns, kernel, into: dx.rows(rows), inPieces: false)
    }
  }

  /// Lends the unfolded rows of some lines at a time, with the rows of what comes out to which they belong.
  private func forEachGroup(
    _ x: Operand<S>, _ plane: Plane, stride: Int, _ workspace: ConvolutionWorkspace<S>,
    _ body: (_ columns: Operand<S>, _ rows: Range<Int>) -> Void
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

/// The lines of what a 3 × 3 convolution gives, over all pictures, in groups that differ by one line at most: so many
/// together that the product is worth its while, and otherwise few enough that their unfolded rows stay in the cache.
struct LineGroups: Sequence, IteratorProtocol {
  private let lines: Int
  private let groups: Int
  private var group = 0

  init(_ output: Plane, channels: Int) {
    lines = output.pictures * output.height
    let height = Swift.max(Swift.max(1024, (1 << 18) / (9 * channels)) / Swift.max(output.width, 1), 1)
    groups = (lines + height - 1) / height
  }

  /// The lines of the largest group.
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

  /// What backward needs beside the input: z, and y for those after it.
  final class Saved {
    let z: OperandBuffer<S>
    let y: OperandBuffer<S>
    let norm = BatchNorm<S>.Saved()

    /// What is made again has its place in memory that others use too.
    init(z: OperandBuffer<S>? = nil, y: OperandBuffer<S>? = nil) {
      self.z = z ?? OperandBuffer()
      self.y = y ?? OperandBuffer()
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

  private func output(_ plane: Plane) -> Shape { Shape(convolution.output(plane).rows, convolution.outputs) }

  /// y, in the given buffer or one of `saved`; x may lie in that very buffer where nothing is kept.
  func forward(
    _ x: Operand<S>, _ plane: Plane, adding residual: Operand<S>? = nil, relu: Bool = true,
    into buffer: OperandBuffer<S>? = nil, mode: ForwardMode, saved: Saved, workspace: ConvolutionWorkspace<S>
  ) -> Operand<S> {
    let z = saved.z.operand(output(plane), x.precision)
    convolution.forward(x, plane, into: z, workspace: workspace)
    let y = mode.keeps || residual != nil ? (buffer ?? saved.y).operand(output(plane), x.precision) : z
    Profile.measure(\.batchNorm) {
      norm.forward(
        z, adding: residual, relu: relu, into: y, mode: mode, saved: saved.norm, statistics: workspace.statistics)
    }
    return y
  }

  /// z once more.
  func convolveAgain(_ x: Operand<S>, _ plane: Plane, saved: Saved, workspace: ConvolutionWorkspace<S>) {
    convolution.forward(x, plane, into: saved.z.operand(output(plane), x.precision), workspace: workspace)
  }

  /// y = ReLU(batchNorm(z)) once more, of x in `plane`.
  func normAgain(_ plane: Plane, saved: Saved, _ precision: Precision) -> Operand<S> {
    let y = saved.y.operand(output(plane), precision)
    Profile.measure(\.batchNorm) { norm.again(saved.z.operand(output(plane), precision), into: y, saved: saved.norm) }
    return y
  }

  /// Adds to the parameters' gradients; dz [as dy] becomes the gradient of z (and may be dy), dx is written.
  func backward(
    _ dy: Operand<S>, x: Operand<S>, _ plane: Plane, mask: BatchNormMask<S> = .recomputed, saved: Saved,
    dz: Operand<S>, dx: Operand<S>?, workspace: ConvolutionWorkspace<S>
  ) {
    Profile.measure(\.batchNorm) {
      norm.backward(
        dy, z: saved.z.operand(dy.shape, dy.precision), mask: mask, saved: saved.norm, dz: dz,
        statistics: workspace.statistics)
    }
    convolution.backward(dz, x: x, plane, dx: dx, workspace: workspace)
  }
}
