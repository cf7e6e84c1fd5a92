import Tensor

/// The block of a ModifiedResNet: 1 × 1, 3 × 3 and 1 × 1 convolutions, each with batch norm, beside a shortcut (He et
/// al.: Deep Residual Learning, 2015). Its output has four times as many channels as the layers between.
///
/// A block that halves the image pools after the second activation, and its shortcut pools before its convolution.
struct Bottleneck<S: Scalar> {
  let conv1: NormedConvolution<S>
  let conv2: NormedConvolution<S>
  let conv3: NormedConvolution<S>
  /// The shortcut's convolution; nil if the shortcut is the input itself.
  let downsample: NormedConvolution<S>?
  let halves: Bool

  /// The output, and what backward needs besides the input.
  final class Activations {
    let recompute: Recompute
    let conv1: NormedConvolution<S>.Activations
    let conv2: NormedConvolution<S>.Activations
    let pooled: MatrixOperandBuffer<S>
    let conv3: NormedConvolution<S>.Activations
    let pooledInput: MatrixOperandBuffer<S>
    let downsample: NormedConvolution<S>.Activations

    /// Activations that backward computes again lie in `passing`, whose memory the blocks of a tower share. Statistics
    /// are always kept.
    init(_ recompute: Recompute = .none, passing: Activations? = nil) {
      let (shared, block) = (recompute == .none ? nil : passing, recompute == .blocks ? passing : nil)
      self.recompute = recompute
      conv1 = NormedConvolution<S>.Activations(z: block?.conv1.z, y: shared?.conv1.y)
      conv2 = NormedConvolution<S>.Activations(z: block?.conv2.z, y: shared?.conv2.y)
      pooled = shared?.pooled ?? MatrixOperandBuffer()
      conv3 = NormedConvolution<S>.Activations(z: block?.conv3.z)
      pooledInput = shared?.pooledInput ?? MatrixOperandBuffer()
      downsample = NormedConvolution<S>.Activations(z: block?.downsample.z)
    }
  }

  init(_ store: ParameterStore<S>, name: String, inputs: Int, planes: Int, halves: Bool) {
    self.halves = halves
    conv1 = NormedConvolution(
      store, names: ("\(name).conv1", "\(name).bn1"), inputs: inputs, outputs: planes, size: 1)
    conv2 = NormedConvolution(
      store, names: ("\(name).conv2", "\(name).bn2"), inputs: planes, outputs: planes, size: 3)
    // Before training a block is its shortcut.
    conv3 = NormedConvolution(
      store, names: ("\(name).conv3", "\(name).bn3"), inputs: planes, outputs: 4 * planes, size: 1,
      normWeight: .zeros)
    let keepsShape = !halves && inputs == 4 * planes
    downsample =
      keepsShape
      ? nil
      : NormedConvolution(
        store, names: ("\(name).downsample.0", "\(name).downsample.1"), inputs: inputs, outputs: 4 * planes, size: 1)
  }

  var norms: [BatchNorm<S>] { [conv1, conv2, conv3].map(\.norm) + (downsample.map { [$0.norm] } ?? []) }

  func output(_ plane: Plane) -> Plane { halves ? plane.halved : plane }

  /// x [points, inputs] → [output points, 4 planes], in a buffer of `activations`; x may lie in the same buffer if
  /// nothing is kept for backward.
  func forward(
    _ x: MatrixOperand<S>, _ plane: Plane, mode: ForwardMode, activations: Activations,
    workspace: ConvolutionWorkspace<S>
  ) -> MatrixOperand<S> {
    let out = output(plane)
    let y1 = conv1.forward(x, plane, mode: mode, activations: activations.conv1, workspace: workspace)
    let y2 = conv2.forward(y1, plane, mode: mode, activations: activations.conv2, workspace: workspace)
    var shortcut = x
    if let downsample {
      shortcut = downsample.forward(
        pooled(x, plane, into: activations.pooledInput), out, isShortcut: true, mode: mode,
        activations: activations.downsample, workspace: workspace)
    }
    return conv3.forward(
      pooled(y2, plane, into: activations.pooled), out, adding: shortcut, mode: mode, activations: activations.conv3,
      workspace: workspace)
  }

  /// Fills `activations` as the forward of x did, except for the output, which is still there.
  func restore(_ x: MatrixOperand<S>, _ plane: Plane, activations: Activations, workspace: ConvolutionWorkspace<S>) {
    let out = output(plane)
    func convolve(
      _ layer: NormedConvolution<S>, _ x: MatrixOperand<S>, _ plane: Plane, _ part: NormedConvolution<S>.Activations
    ) {
      if activations.recompute == .blocks { layer.convolveAgain(x, plane, activations: part, workspace: workspace) }
    }
    convolve(conv1, x, plane, activations.conv1)
    let y1 = conv1.normAgain(plane, activations: activations.conv1, x.precision)
    convolve(conv2, y1, plane, activations.conv2)
    let y2 = conv2.normAgain(plane, activations: activations.conv2, x.precision)
    if let downsample {
      convolve(downsample, pooled(x, plane, into: activations.pooledInput), out, activations.downsample)
    }
    convolve(conv3, pooled(y2, plane, into: activations.pooled), out, activations.conv3)
  }

  private func pooled(_ x: MatrixOperand<S>, _ plane: Plane, into buffer: MatrixOperandBuffer<S>) -> MatrixOperand<S> {
    guard halves else { return x }
    let y = buffer.operand(Shape(plane.halved.rows, x.columns), x.precision)
    averagePool(x, plane, into: y)
    return y
  }

  /// Returns the gradient of x as two parts, through the shortcut and through the convolutions, whose sum it is. The
  /// gradient of y is given as two parts too, dy and `other`, which are used up. Adds to the parameters' gradients.
  ///
  /// `buffers` are the memory of the two parts, that of dy first; if the shortcut is the input itself, its gradient
  /// stays in the memory of dy.
  func backward(
    _ dy: MatrixOperand<S>, adding other: MatrixOperand<S>?, x: MatrixOperand<S>, _ plane: Plane,
    activations: Activations, buffers: (MatrixOperandBuffer<S>, MatrixOperandBuffer<S>),
    workspace: ConvolutionWorkspace<S>
  ) -> (shortcut: MatrixOperand<S>, convolved: MatrixOperand<S>) {
    let out = output(plane)
    let (planes, precision) = (conv1.convolution.outputs, x.precision)
    let (outer, inner) = (Shape(out.rows, planes), Shape(plane.rows, planes))
    let y1 = activations.conv1.y.operand(inner, precision)
    let y2 = halves ? activations.pooled.operand(outer, precision) : activations.conv2.y.operand(inner, precision)
    let dpooled = workspace.narrow.0.operand(outer, precision)
    // After this, dy is the gradient of the sum, and thus of the shortcut.
    conv3.backward(
      dy, x: y2, out, mask: .output(activations.conv3.y.operand(dy.shape, precision), adding: other),
      activations: activations.conv3, into: (workspace.wide.operand(dy.shape, precision), dpooled),
      workspace: workspace)
    let d2 = unpooled(dpooled, plane, into: workspace.narrow.1)
    let d1 = (halves ? workspace.narrow.0 : workspace.narrow.1).operand(inner, precision)
    conv2.backward(d2, x: y1, plane, activations: activations.conv2, into: (d2, d1), workspace: workspace)

    guard let downsample else {
      let convolved = buffers.1.operand(x.shape, precision)
      conv1.backward(d1, x: x, plane, activations: activations.conv1, into: (d1, convolved), workspace: workspace)
      return (dy, convolved)
    }
    let shortcut = buffers.1.operand(x.shape, precision)
    let input = halves ? activations.pooledInput.operand(Shape(out.rows, x.columns), precision) : x
    let dinput = halves ? workspace.wide.operand(input.shape, precision) : shortcut
    downsample.backward(
      dy, x: input, out, mask: .none, activations: activations.downsample, into: (dy, dinput), workspace: workspace)
    if halves { averagePoolBackward(dinput, plane, into: shortcut) }
    let convolved = buffers.0.operand(x.shape, precision)
    conv1.backward(d1, x: x, plane, activations: activations.conv1, into: (d1, convolved), workspace: workspace)
    return (shortcut, convolved)
  }

  private func unpooled(_ dy: MatrixOperand<S>, _ plane: Plane, into buffer: MatrixOperandBuffer<S>) -> MatrixOperand<S>
  {
    guard halves else { return dy }
    let dx = buffer.operand(Shape(plane.rows, dy.columns), dy.precision)
    averagePoolBackward(dy, plane, into: dx)
    return dx
  }
}
