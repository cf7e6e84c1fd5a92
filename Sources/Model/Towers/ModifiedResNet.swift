public import Tensor

// b images; rows are points with channels last, w width, e embedding.

/// The vision tower that computes features [b, e] of images [b, 3, size, size] as open_clip's ModifiedResNet does: a
/// stem of three convolutions and a pool, four stages of bottlenecks that halve the image by pooling, and attention
/// pooling.
public final class ModifiedResNet<S: Scalar>: VisionTower {
  public let config: VisionConfig
  let stem: [NormedConvolution<S>]
  let layers: [[Bottleneck<S>]]
  let pool: AttentionPool<S>
  /// The stages are the stem, each block, and the pool.
  public let stages: TowerStages

  private let pixels = Buffer<S>()
  private let roundedPixels = BFloat16Buffer()
  private let stemActivations: [NormedConvolution<S>.Activations]
  /// True if the outputs of the stem's layers are kept, and not computed again from the inputs of their norms.
  private let stemIsKept: Bool
  private let stemOutput = MatrixOperandBuffer<S>()
  private let blockActivations: [[Bottleneck<S>.Activations]]
  private let passing = Bottleneck<S>.Activations()
  /// The input of the attention pool, and its gradient.
  private let points = Buffer<S>()
  private let poolActivations = AttentionPool<S>.Activations()
  private let features = Buffer<S>()
  private let workspace: ConvolutionWorkspace<S>
  private var imageCount = 0

  init(
    _ store: ParameterStore<S>, _ config: VisionConfig, stages: [Int], embedding: Int,
    precision: ComputePrecision = .fp32, recompute: Recompute = .none
  ) {
    self.config = config
    workspace = ConvolutionWorkspace(precision)
    let half = config.width / 2
    var ends = [store.count]
    stem = [(3, half, 2), (half, half, 1), (half, config.width, 1)].enumerated().map { index, sizes in
      NormedConvolution(
        store, names: ("visual.conv\(index + 1)", "visual.bn\(index + 1)"), inputs: sizes.0, outputs: sizes.1,
        size: 3, stride: sizes.2)
    }
    ends.append(store.count)
    var inputs = config.width
    layers = stages.enumerated().map { stage, blocks in
      (0..<blocks).map { block in
        let planes = config.width << stage
        defer {
          inputs = 4 * planes
          ends.append(store.count)
        }
        return Bottleneck(
          store, name: "visual.layer\(stage + 1).\(block)", inputs: inputs, planes: planes,
          halves: block == 0 && stage > 0)
      }
    }
    pool = AttentionPool(
      store, name: "visual.attnpool", points: config.grid * config.grid, width: config.outputWidth,
      embedding: embedding, heads: config.heads)
    ends.append(store.count)
    self.stages = TowerStages(zip(ends, ends.dropFirst()).map { [$0..<$1] })
    let stemActive = recompute == .none ? nil : MatrixOperandBuffer<S>()
    stemActivations = stem.map { _ in NormedConvolution<S>.Activations(y: stemActive) }
    stemIsKept = stemActive == nil
    blockActivations = layers.map { [passing] in
      $0.map { _ in Bottleneck<S>.Activations(recompute, passing: passing) }
    }
  }

  /// The sizes of the images, and of the output of the stem's first convolution.
  private var planes: (input: Plane, stem: Plane) {
    let input = Plane(images: imageCount, height: config.imageSize, width: config.imageSize)
    return (input, input.convolved(stride: 2))
  }

  public func forward(
    _ images: Tensor<S>, mode: ForwardMode, observe: ((String, Tensor<S>) -> Void)? = nil
  ) -> Tensor<S> {
    imageCount = images.shape[0]
    precondition(
      images.shape == Shape(imageCount, 3, config.imageSize, config.imageSize),
      "images of \(images.shape) for \(config)")
    func see(_ name: String, _ x: MatrixOperand<S>, _ plane: Plane) {
      guard let observe else { return }
      let seen = Tensor<S>(Shape(plane.images, plane.height, plane.width, x.columns))
      copy(x, into: seen)
      observe(name, seen)
    }
    stages.willRun?(0)
    var plane = planes.input
    let rows = pixels.tensor(Shape(plane.rows, 3))
    channelsLast(images, into: rows)
    var x = roundedPixels.operand(rows, workspace.precision)
    for (layer, activations) in zip(stem, stemActivations) {
      x = layer.forward(x, plane, mode: mode, activations: activations, workspace: workspace)
      plane = layer.convolution.output(plane)
    }
    let pooled = stemOutput.operand(Shape(plane.halved.rows, x.columns), workspace.precision)
    averagePool(x, plane, into: pooled)
    (x, plane) = (pooled, plane.halved)
    see("visual.avgpool", x, plane)

    var part = 0
    for (stage, blocks) in layers.enumerated() {
      for (index, block) in blocks.enumerated() {
        part += 1
        stages.willRun?(part)
        let activations = mode.keeps ? blockActivations[stage][index] : passing
        x = block.forward(x, plane, mode: mode, activations: activations, workspace: workspace)
        plane = block.output(plane)
      }
      see("visual.layer\(stage + 1)", x, plane)
    }
    stages.willRun?(part + 1)
    let out = features.tensor(Shape(imageCount, pool.output.weight.shape[0]))
    let last = points.tensor(x.shape)
    copy(x, into: last)
    pool.forward(last, images: imageCount, into: out, activations: poolActivations)
    return out
  }

  public func backward(_ dfeatures: Tensor<S>) {
    precondition(dfeatures.rows == imageCount, "a gradient of \(dfeatures.shape) for \(imageCount) images")
    let stemPlane = planes.stem.halved
    let precision = workspace.precision
    // Each block with its input and the input's sizes.
    var steps: [(block: Bottleneck<S>, activations: Bottleneck<S>.Activations, plane: Plane, x: MatrixOperand<S>)] = []
    var plane = stemPlane
    var x = stemOutput.operand(Shape(plane.rows, config.width), precision)
    for (block, activations) in zip(layers.joined(), blockActivations.joined()) {
      steps.append((block, activations, plane, x))
      plane = block.output(plane)
      x = activations.conv3.y.operand(Shape(plane.rows, block.conv3.convolution.outputs), precision)
    }

    let dpoints = points.tensor(x.shape)
    pool.backward(dfeatures, images: imageCount, activations: poolActivations, dx: dpoints)
    // Make them as large as they get: a buffer that grew later would be held beside its former memory.
    let most = steps.reduce(x.shape.count) { max($0, $1.x.shape.count) }
    for buffer in workspace.blocks { _ = buffer.operand(Shape(most), precision) }
    var buffers = (workspace.blocks[0], workspace.blocks[1])
    var d: (MatrixOperand<S>, MatrixOperand<S>?) = (buffers.0.operand(x.shape, precision), nil)
    copy(dpoints, into: d.0)
    stages.gradientsReady?(1 + steps.count)
    for (index, step) in steps.enumerated().reversed() {
      // The activations of the last block are still there.
      if step.activations.recompute != .none, index < steps.count - 1 {
        step.block.restore(step.x, step.plane, activations: step.activations, workspace: workspace)
      }
      d = step.block.backward(
        d.0, adding: d.1, x: step.x, step.plane, activations: step.activations, buffers: buffers, workspace: workspace)
      if step.block.downsample != nil { swap(&buffers.0, &buffers.1) }
      stages.gradientsReady?(1 + index)
    }
    if let other = d.1 { add(other, to: d.0) }
    backwardStem(d.0)
    stages.gradientsReady?(0)
  }

  private func backwardStem(_ dpooled: MatrixOperand<S>) {
    let (input, plane) = planes
    let precision = workspace.precision
    var d = workspace.wide.operand(Shape(plane.rows, config.width), precision)
    averagePoolBackward(dpooled, plane, into: d)
    for (index, layer) in stem.enumerated().reversed() {
      let isFirst = index == 0
      let (from, inputs) = (isFirst ? input : plane, layer.convolution.inputs)
      if !isFirst, !stemIsKept {
        _ = stem[index - 1].normAgain(index == 1 ? input : plane, activations: stemActivations[index - 1], precision)
      }
      let shape = Shape(from.rows, inputs)
      let x =
        isFirst
        ? roundedPixels.kept(pixels.tensor(shape), precision) : stemActivations[index - 1].y.operand(shape, precision)
      // Images need no gradient.
      let buffer = index == 2 ? workspace.narrow.0 : workspace.narrow.1
      let dx = isFirst ? nil : buffer.operand(shape, precision)
      layer.backward(d, x: x, from, activations: stemActivations[index], into: (d, dx), workspace: workspace)
      if let dx { d = dx }
    }
  }

  private var norms: [BatchNorm<S>] { stem.map(\.norm) + layers.joined().flatMap(\.norms) }

  public func freeze(_ frozen: Frozen) {
    for norm in norms { norm.isFrozen = frozen.contains(norm.weight.name) && frozen.contains(norm.bias.name) }
  }

  public func synchronize(over ranks: any Ranks<S>) { workspace.statistics.ranks = ranks }

  public func moveStatistics() throws {
    try workspace.statistics.check()
    for norm in norms { norm.move() }
  }

  public func dropStatistics() { for norm in norms { norm.drop() } }
}
