import Tensor

/// What a ModifiedResNet repeats: 1 × 1, 3 × 3 and 1 × 1 convolutions, each with batch norm, beside a shortcut; four
/// times as many channels come out as are in the middle.
///
/// Where a block halves the picture, it pools after the second activation, and its shortcut pools before its
/// convolution.
struct Bottleneck<S: Scalar> {
  let reduce: NormedConvolution<S>
  let spread: NormedConvolution<S>
  let expand: NormedConvolution<S>
  /// The shortcut's, where it is not the input itself.
  let downsample: NormedConvolution<S>?
  let halves: Bool

  /// What backward needs beside the input, and the output.
  final class Saved {
    let recompute: Recompute
    let reduce: NormedConvolution<S>.Saved
    let spread: NormedConvolution<S>.Saved
    let pooled: OperandBuffer<S>
    let expand: NormedConvolution<S>.Saved
    let pooledInput: OperandBuffer<S>
    let downsample: NormedConvolution<S>.Saved

    /// What is made again has its place in `passing`, whose memory the blocks of a tower share. Statistics never are.
    init(_ recompute: Recompute = .none, passing: Saved? = nil) {
      let (shared, block) = (recompute == .none ? nil : passing, recompute == .blocks ? passing : nil)
      self.recompute = recompute
      reduce = NormedConvolution<S>.Saved(z: block?.reduce.z, y: shared?.reduce.y)
      spread = NormedConvolution<S>.Saved(z: block?.spread.z, y: shared?.spread.y)
      pooled = shared?.pooled ?? OperandBuffer()
      expand = NormedConvolution<S>.Saved(z: block?.expand.z)
      pooledInput = shared?.pooledInput ?? OperandBuffer()
      downsample = NormedConvolution<S>.Saved(z: block?.downsample.z)
    }
  }

  init(_ store: ParameterStore<S>, name: String, inputs: Int, planes: Int, halves: Bool) {
    self.halves = halves
    reduce = NormedConvolution(
      store, convolution: "\(name).conv1", norm: "\(name).bn1", inputs: inputs, outputs: planes, size: 1)
    spread = NormedConvolution(
      store, convolution: "\(name).conv2", norm: "\(name).bn2", inputs: planes, outputs: planes, size: 3)
    // A block begins as its shortcut.
    expand = NormedConvolution(
      store, convolution: "\(name).conv3", norm: "\(name).bn3", inputs: planes, outputs: 4 * planes, size: 1,
      normWeight: .zeros)
    let keepsShape = !halves && inputs == 4 * planes
    downsample =
      keepsShape
      ? nil
      : NormedConvolution(
        store, convolution: "\(name).downsample.0", norm: "\(name).downsample.1", inputs: inputs, outputs: 4 * planes,
        size: 1)
  }

  var norms: [BatchNorm<S>] { [reduce, spread, expand].map(\.norm) + (downsample.map { [$0.norm] } ?? []) }

  func output(_ plane: Plane) -> Plane { halves ? plane.halved : plane }

  /// x [points, inputs] → [points that come out, 4 planes], in a buffer of `saved`; x may be that very buffer, where
  /// nothing is kept for backward.
  func forward(
    _ x: Operand<S>, _ plane: Plane, mode: ForwardMode, saved: Saved, workspace: ConvolutionWorkspace<S>
  ) -> Operand<S> {
    let out = output(plane)
    let y1 = reduce.forward(x, plane, mode: mode, saved: saved.reduce, workspace: workspace)
    let y2 = spread.forward(y1, plane, mode: mode, saved: saved.spread, workspace: workspace)
    var shortcut = x
    if let downsample {
      shortcut = downsample.forward(
        pooled(x, plane, into: saved.pooledInput), out, relu: false, into: workspace.shortcut, mode: mode,
        saved: saved.downsample, workspace: workspace)
    }
    return expand.forward(
      pooled(y2, plane, into: saved.pooled), out, adding: shortcut, mode: mode, saved: saved.expand,
      workspace: workspace)
  }

  /// Fills `saved` as the forward of x did, but for the output, which is still there.
  func restore(_ x: Operand<S>, _ plane: Plane, saved: Saved, workspace: ConvolutionWorkspace<S>) {
    let out = output(plane)
    func convolve(_ layer: NormedConvolution<S>, _ x: Operand<S>, _ plane: Plane, _ part: NormedConvolution<S>.Saved) {
      if saved.recompute == .blocks { layer.convolveAgain(x, plane, saved: part, workspace: workspace) }
    }
    convolve(reduce, x, plane, saved.reduce)
    let y1 = reduce.normAgain(plane, saved: saved.reduce, x.precision)
    convolve(spread, y1, plane, saved.spread)
    let y2 = spread.normAgain(plane, saved: saved.spread, x.precision)
    if let downsample { convolve(downsample, pooled(x, plane, into: saved.pooledInput), out, saved.downsample) }
    convolve(expand, pooled(y2, plane, into: saved.pooled), out, saved.expand)
  }

  private func pooled(_ x: Operand<S>, _ plane: Plane, into buffer: OperandBuffer<S>) -> Operand<S> {
    guard halves else { return x }
    let y = buffer.operand(Shape(plane.halved.rows, x.columns), x.precision)
    averagePool(x, plane, into: y)
    return y
  }

  /// The gradient of x as what came by the shortcut and what came by the convolutions, whose sum it is, given the two
  /// of y; both are used up. Adds to the parameters' gradients.
  ///
  /// `buffers` are the memory of the two, of dy first; where the shortcut is the input itself, dy's own memory has its
  /// gradient.
  func backward(
    _ dy: Operand<S>, adding other: Operand<S>?, x: Operand<S>, _ plane: Plane, saved: Saved,
    buffers: (OperandBuffer<S>, OperandBuffer<S>), workspace: ConvolutionWorkspace<S>
  ) -> (shortcut: Operand<S>, convolved: Operand<S>) {
    let out = output(plane)
    let (planes, precision) = (reduce.convolution.outputs, x.precision)
    let (outer, inner) = (Shape(out.rows, planes), Shape(plane.rows, planes))
    let y1 = saved.reduce.y.operand(inner, precision)
    let y2 = halves ? saved.pooled.operand(outer, precision) : saved.spread.y.operand(inner, precision)
    let dpooled = workspace.narrow.0.operand(outer, precision)
    // After this dy is the gradient of the sum, and so of the shortcut.
    expand.backward(
      dy, x: y2, out, mask: .output(saved.expand.y.operand(dy.shape, precision), adding: other), saved: saved.expand,
      dz: workspace.wide.operand(dy.shape, precision), dx: dpooled, workspace: workspace)
    let d2 = unpooled(dpooled, plane, into: workspace.narrow.1)
    let d1 = (halves ? workspace.narrow.0 : workspace.narrow.1).operand(inner, precision)
    spread.backward(d2, x: y1, plane, saved: saved.spread, dz: d2, dx: d1, workspace: workspace)

    guard let downsample else {
      let convolved = buffers.1.operand(x.shape, precision)
      reduce.backward(d1, x: x, plane, saved: saved.reduce, dz: d1, dx: convolved, workspace: workspace)
      return (dy, convolved)
    }
    let shortcut = buffers.1.operand(x.shape, precision)
    let input = halves ? saved.pooledInput.operand(Shape(out.rows, x.columns), precision) : x
    let dinput = halves ? workspace.wide.operand(input.shape, precision) : shortcut
    downsample.backward(
      dy, x: input, out, mask: .none, saved: saved.downsample, dz: dy, dx: dinput, workspace: workspace)
    if halves { averagePoolBackward(dinput, plane, into: shortcut) }
    let convolved = buffers.0.operand(x.shape, precision)
    reduce.backward(d1, x: x, plane, saved: saved.reduce, dz: d1, dx: convolved, workspace: workspace)
    return (shortcut, convolved)
  }

  private func unpooled(_ dy: Operand<S>, _ plane: Plane, into buffer: OperandBuffer<S>) -> Operand<S> {
    guard halves else { return dy }
    let dx = buffer.operand(Shape(plane.rows, dy.columns), dy.precision)
    averagePoolBackward(dy, plane, into: dx)
    return dx
  }
}
