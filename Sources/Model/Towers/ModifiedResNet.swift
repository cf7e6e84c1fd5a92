public import Tensor

// b pictures; rows are points of pictures with channels last, w width, e embedding.

/// Pictures [b, 3, size, size] to features [b, e], as open_clip's ModifiedResNet computes them: a stem of three
/// convolutions and a pool, four stages of bottlenecks that halve by pooling, and attention pooling.
public final class ModifiedResNet<S: Scalar>: VisionTower {
  public let config: VisionConfig
  let stem: [NormedConvolution<S>]
  let layers: [[Bottleneck<S>]]
  let pool: AttentionPool<S>
  /// The stem, each block, and the pool.
  public let stages: TowerStages

  private let pixels = Buffer<S>()
  private let roundedPixels = RoundedBuffer()
  private let savedStem: [NormedConvolution<S>.Saved]
  /// Whether the outputs of the stem's layers are kept, and not made again of what their norms had.
  private let stemIsKept: Bool
  private let stemOutput = OperandBuffer<S>()
  private let savedBlocks: [[Bottleneck<S>.Saved]]
  private let passing = Bottleneck<S>.Saved()
  /// What the pool sees, and its gradient.
  private let points = Buffer<S>()
  private let savedPool = AttentionPool<S>.Saved()
  private let features = Buffer<S>()
  private let workspace: ConvolutionWorkspace<S>
  private var pictures = 0

  init(
    _ store: ParameterStore<S>, _ config: VisionConfig, stages: [Int], embedding: Int, precision: Precision = .fp32,
    recompute: Recompute = .none
  ) {
    self.config = config
    workspace = ConvolutionWorkspace(precision)
    let half = config.width / 2
    var ends = [store.count]
    stem = [(3, half, 2), (half, half, 1), (half, config.width, 1)].enumerated().map { index, sizes in
      NormedConvolution(
        store, convolution: "visual.conv\(index + 1)", norm: "visual.bn\(index + 1)", inputs: sizes.0,
        outputs: sizes.1, size: 3, stride: sizes.2)
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
    let stemActive = recompute == .none ? nil : OperandBuffer<S>()
    savedStem = stem.map { _ in NormedConvolution<S>.Saved(y: stemActive) }
    stemIsKept = stemActive == nil
    savedBlocks = layers.map { [passing] in $0.map { _ in Bottleneck<S>.Saved(recompute, passing: passing) } }
  }

  /// The points of the pictures, and of what the stem's first convolution gives.
  private var planes: (input: Plane, stem: Plane) {
    let input = Plane(pictures: pictures, height: config.imageSize, width: config.imageSize)
    return (input, input.convolved(stride: 2))
  }

  public func forward(
    _ images: Tensor<S>, mode: ForwardMode, observe: ((String, Tensor<S>) -> Void)? = nil
  ) -> Tensor<S> {
    pictures = images.shape[0]
    precondition(
      images.shape == Shape(pictures, 3, config.imageSize, config.imageSize),
      "pictures of \(images.shape) for \(config)")
    func see(_ name: String, _ x: Operand<S>, _ plane: Plane) {
      guard let observe else { return }
      let seen = Tensor<S>(Shape(plane.pictures, plane.height, plane.width, x.columns))
      copy(x, into: seen)
      observe(name, seen)
    }
    stages.willRun?(0)
    var plane = planes.input
    let rows = pixels.tensor(Shape(plane.rows, 3))
    channelsLast(images, into: rows)
    var x = roundedPixels.operand(rows, workspace.precision)
    for (layer, saved) in zip(stem, savedStem) {
      x = layer.forward(x, plane, mode: mode, saved: saved, workspace: workspace)
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
        let saved = mode.keeps ? savedBlocks[stage][index] : passing
        x = block.forward(x, plane, mode: mode, saved: saved, workspace: workspace)
        plane = block.output(plane)
      }
      see("visual.layer\(stage + 1)", x, plane)
    }
    stages.willRun?(part + 1)
    let out = features.tensor(Shape(pictures, pool.output.weight.shape[0]))
    let last = points.tensor(x.shape)
    copy(x, into: last)
    pool.forward(last, pictures: pictures, into: out, saved: savedPool)
    return out
  }

  public func backward(_ dfeatures: Tensor<S>) {
    precondition(dfeatures.rows == pictures, "a gradient of \(dfeatures.shape) for \(pictures) pictures")
    let stemPlane = planes.stem.halved
    let precision = workspace.precision
    // Each block with the points that it sees, and its input.
    var steps: [(block: Bottleneck<S>, saved: Bottleneck<S>.Saved, plane: Plane, x: Operand<S>)] = []
    var plane = stemPlane
    var x = stemOutput.operand(Shape(plane.rows, config.width), precision)
    for (block, saved) in zip(layers.joined(), savedBlocks.joined()) {
      steps.append((block, saved, plane, x))
      plane = block.output(plane)
      x = saved.expand.y.operand(Shape(plane.rows, block.expand.convolution.outputs), precision)
    }

    let dpoints = points.tensor(x.shape)
    pool.backward(dfeatures, pictures: pictures, saved: savedPool, dx: dpoints)
    // At once as large as they get: one that grew later would be held beside what it was.
    let most = steps.reduce(x.shape.count) { max($0, $1.x.shape.count) }
    for buffer in workspace.blocks { _ = buffer.operand(Shape(most), precision) }
    var buffers = (workspace.blocks[0], workspace.blocks[1])
    var d: (Operand<S>, Operand<S>?) = (buffers.0.operand(x.shape, precision), nil)
    copy(dpoints, into: d.0)
    stages.gradientsReady?(1 + steps.count)
    for (index, step) in steps.enumerated().reversed() {
      // Of the last block all is still there.
      if step.saved.recompute != .none, index < steps.count - 1 {
        step.block.restore(step.x, step.plane, saved: step.saved, workspace: workspace)
      }
      d = step.block.backward(
        d.0, adding: d.1, x: step.x, step.plane, saved: step.saved, buffers: buffers, workspace: workspace)
      if step.block.downsample != nil { swap(&buffers.0, &buffers.1) }
      stages.gradientsReady?(1 + index)
    }
    if let other = d.1 { add(other, to: d.0) }
    backwardStem(d.0)
    stages.gradientsReady?(0)
  }

  private func backwardStem(_ dpooled: Operand<S>) {
    let (input, plane) = planes
    let precision = workspace.precision
    var d = workspace.wide.operand(Shape(plane.rows, config.width), precision)
    averagePoolBackward(dpooled, plane, into: d)
    for (index, layer) in stem.enumerated().reversed() {
      let isFirst = index == 0
      let (from, inputs) = (isFirst ? input : plane, layer.convolution.inputs)
      if !isFirst, !stemIsKept {
        _ = stem[index - 1].normAgain(index == 1 ? input : plane, saved: savedStem[index - 1], precision)
      }
      let shape = Shape(from.rows, inputs)
      let x =
        isFirst
        ? roundedPixels.kept(pixels.tensor(shape), precision) : savedStem[index - 1].y.operand(shape, precision)
      // Pictures are not learned.
      let buffer = index == 2 ? workspace.narrow.0 : workspace.narrow.1
      let dx = isFirst ? nil : buffer.operand(shape, precision)
      layer.backward(d, x: x, from, saved: savedStem[index], dz: d, dx: dx, workspace: workspace)
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
