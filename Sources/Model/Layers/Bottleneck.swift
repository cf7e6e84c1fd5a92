import Tensor

/// The block of a ModifiedResNet: 1 × 1, 3 × 3 and 1 × 1 convolutions, each with batch norm, beside a shortcut (He et
/// al.: Deep Residual Learning, 2015). Where it halves the image it pools before conv3 and before the shortcut's.
struct Bottleneck<S: Scalar> {
  let conv1: NormedConvolution<S>
  let conv2: NormedConvolution<S>
  let conv3: NormedConvolution<S>
  /// The shortcut's convolution; nil if the shortcut is the input itself.
  let downsample: NormedConvolution<S>?
  let sizes: BottleneckSizes
  private let workspace: ConvolutionWorkspace<S>

  final class Activations {
    let recompute: Recompute
    let conv1: NormedConvolution<S>.Activations
    let conv2: NormedConvolution<S>.Activations
    let pooled: MatrixOperandBuffer<S>
    let conv3: NormedConvolution<S>.Activations
    let pooledInput: MatrixOperandBuffer<S>
    let downsample: NormedConvolution<S>.Activations

    /// The blocks of a tower share `passing`, which holds what backward computes again. Statistics are always kept.
    init(_ recompute: Recompute = .none, passing: Activations? = nil) {
      let (shared, block) = (recompute == .none ? nil : passing, recompute == .blocks ? passing : nil)
      self.recompute = recompute
      conv1 = .init(z: block?.conv1.z, y: shared?.conv1.y)
      conv2 = .init(z: block?.conv2.z, y: shared?.conv2.y)
      pooled = shared?.pooled ?? MatrixOperandBuffer()
      conv3 = .init(z: block?.conv3.z)
      pooledInput = shared?.pooledInput ?? MatrixOperandBuffer()
      downsample = .init(z: block?.downsample.z)
    }
  }

  init(_ store: ParameterStore<S>, name: String, _ sizes: BottleneckSizes, _ workspace: ConvolutionWorkspace<S>) {
    (self.sizes, self.workspace) = (sizes, workspace)
    func layer(
      _ convolution: String, _ norm: String, _ inputs: Int, _ outputs: Int, size: Int = 1, normWeight: Initial = .ones
    ) -> NormedConvolution<S> {
      NormedConvolution(
        store, names: ("\(name).\(convolution)", "\(name).\(norm)"), channels: (inputs, outputs), size: size,
        normWeight: normWeight, workspace: workspace)
    }
    conv1 = layer("conv1", "bn1", sizes.inputs, sizes.planes)
    conv2 = layer("conv2", "bn2", sizes.planes, sizes.planes, size: 3)
    // Before training a block is its shortcut.
    conv3 = layer("conv3", "bn3", sizes.planes, sizes.outputs, normWeight: .zeros)
    downsample = sizes.keepsShape ? nil : layer("downsample.0", "downsample.1", sizes.inputs, sizes.outputs)
  }

  var norms: [BatchNorm<S>] { [conv1, conv2, conv3].map(\.norm) + (downsample.map { [$0.norm] } ?? []) }

  /// x [points, inputs] → [output points, outputs], in a buffer of `activations`, where x may lie if nothing is kept.
  func forward(_ x: MatrixOperand<S>, _ plane: Plane, mode: ForwardMode, activations: Activations) -> MatrixOperand<S> {
    let out = sizes.output(plane)
    let y1 = conv1.forward(x, plane, mode: mode, activations: activations.conv1)
    let y2 = conv2.forward(y1, plane, mode: mode, activations: activations.conv2)
    var shortcut = x
    if let downsample {
      let input = pooled(x, plane, into: activations.pooledInput)
      shortcut = downsample.forward(input, out, isShortcut: true, mode: mode, activations: activations.downsample)
    }
    let input = pooled(y2, plane, into: activations.pooled)
    return conv3.forward(input, out, adding: shortcut, mode: mode, activations: activations.conv3)
  }

  /// Fills `activations` as the forward of x did, except for the output, which is still there.
  func restore(_ x: MatrixOperand<S>, _ plane: Plane, activations: Activations) {
    let (convolves, out) = (activations.recompute == .blocks, sizes.output(plane))
    if convolves { conv1.convolved(x, plane, activations: activations.conv1) }
    let y1 = conv1.normAgain(plane, activations: activations.conv1)
    if convolves { conv2.convolved(y1, plane, activations: activations.conv2) }
    let y2 = conv2.normAgain(plane, activations: activations.conv2)
    let inputs = (pooled(x, plane, into: activations.pooledInput), pooled(y2, plane, into: activations.pooled))
    guard convolves else { return }
    downsample?.convolved(inputs.0, out, activations: activations.downsample)
    conv3.convolved(inputs.1, out, activations: activations.conv3)
  }

  private func pooled(_ x: MatrixOperand<S>, _ plane: Plane, into buffer: MatrixOperandBuffer<S>) -> MatrixOperand<S> {
    guard sizes.halves else { return x }
    let y = buffer.operand(Shape(plane.halved.rows, x.columns), x.precision)
    averagePool(x, plane, into: y)
    return y
  }

  /// Returns the gradient of x as two parts, through the shortcut and through the convolutions, whose sum it is, given
  /// that of y as the parts dy and `other`, which are used up. Adds to the parameters' gradients. `buffers` hold the
  /// two parts, that of dy first; if the shortcut is the input itself, its gradient stays in the memory of dy.
  func backward(
    _ dy: MatrixOperand<S>, adding other: MatrixOperand<S>?, x: MatrixOperand<S>, _ plane: Plane,
    activations: Activations, buffers: (MatrixOperandBuffer<S>, MatrixOperandBuffer<S>)
  ) -> (shortcut: MatrixOperand<S>, convolved: MatrixOperand<S>) {
    let (out, planes, precision) = (sizes.output(plane), sizes.planes, x.precision)
    let (outer, inner) = (Shape(out.rows, planes), Shape(plane.rows, planes))
    let y1 = activations.conv1.y.operand(inner, precision)
    let y2 = sizes.halves ? activations.pooled.operand(outer, precision) : activations.conv2.y.operand(inner, precision)
    let dpooled = workspace.narrow.0.operand(outer, precision)
    // After this, dy is the gradient of the sum, and thus of the shortcut.
    conv3.backward(
      dy, x: y2, out, mask: .output(activations.conv3.y.operand(dy.shape, precision), adding: other),
      activations: activations.conv3, into: (workspace.wide.operand(dy.shape, precision), dpooled))
    var d2 = dpooled
    if sizes.halves {
      d2 = workspace.narrow.1.operand(inner, precision)
      averagePoolBackward(dpooled, plane, into: d2)
    }
    let d1 = (sizes.halves ? workspace.narrow.0 : workspace.narrow.1).operand(inner, precision)
    conv2.backward(d2, x: y1, plane, activations: activations.conv2, into: (d2, d1))
    var (shortcut, buffer) = (dy, buffers.1)
    if let downsample {
      shortcut = buffers.1.operand(x.shape, precision)
      let input = sizes.halves ? activations.pooledInput.operand(Shape(out.rows, x.columns), precision) : x
      let dinput = sizes.halves ? workspace.wide.operand(input.shape, precision) : shortcut
      downsample.backward(dy, x: input, out, mask: .none, activations: activations.downsample, into: (dy, dinput))
      if sizes.halves { averagePoolBackward(dinput, plane, into: shortcut) }
      buffer = buffers.0
    }
    let convolved = buffer.operand(x.shape, precision)
    conv1.backward(d1, x: x, plane, activations: activations.conv1, into: (d1, convolved))
    return (shortcut, convolved)
  }
}
