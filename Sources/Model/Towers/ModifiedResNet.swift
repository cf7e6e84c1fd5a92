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
  private let savedStem: [NormedConvolution<S>.Saved]
  /// Whether the outputs of the stem's layers are kept, and not made again of what their norms had.
  private let stemIsKept: Bool
  private let stemOutput = Buffer<S>()
  private let savedBlocks: [[Bottleneck<S>.Saved]]
  private let passing = Bottleneck<S>.Saved()
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
    let stemActive = recompute == .none ? nil : Buffer<S>()
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
    func see(_ name: String, _ x: Tensor<S>, _ plane: Plane) {
      observe?(name, x.reshaped(Shape(plane.pictures, plane.height, plane.width, x.columns)))
    }
    stages.willRun?(0)
    var plane = planes.input
    var x = pixels.tensor(Shape(plane.rows, 3))
    channelsLast(images, into: x)
    for (layer, saved) in zip(stem, savedStem) {
      x = layer.forward(x, plane, mode: mode, saved: saved, workspace: workspace)
      plane = layer.convolution.output(plane)
    }
    let pooled = stemOutput.tensor(Shape(plane.halved.rows, x.columns))
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
    pool.forward(x, pictures: pictures, into: out, saved: savedPool)
    return out
  }

  public func backward(_ dfeatures: Tensor<S>) {
    precondition(dfeatures.rows == pictures, "a gradient of \(dfeatures.shape) for \(pictures) pictures")
    let stemPlane = planes.stem.halved
    // Each block with the points that it sees, and its input.
    var steps: [(block: Bottleneck<S>, saved: Bottleneck<S>.Saved, plane: Plane, x: Tensor<S>)] = []
    var plane = stemPlane
    var x = stemOutput.tensor(Shape(plane.rows, config.width))
    for (block, saved) in zip(layers.joined(), savedBlocks.joined()) {
      steps.append((block, saved, plane, x))
      plane = block.output(plane)
      x = saved.expand.y.tensor(Shape(plane.rows, block.expand.convolution.outputs))
    }

    var current = 0
    var d = workspace.blocks[current].tensor(x.shape)
    pool.backward(dfeatures, pictures: pictures, saved: savedPool, dx: d)
    stages.gradientsReady?(1 + steps.count)
    for (index, step) in steps.enumerated().reversed() {
      // Of the last block all is still there.
      if step.saved.recompute != .none, index < steps.count - 1 {
        step.block.restore(step.x, step.plane, saved: step.saved, workspace: workspace)
      }
      d = step.block.backward(
        d, x: step.x, step.plane, saved: step.saved, into: workspace.blocks[1 - current], workspace: workspace)
      if step.block.downsample != nil { current = 1 - current }
      stages.gradientsReady?(1 + index)
    }
    backwardStem(d)
    stages.gradientsReady?(0)
  }

  private func backwardStem(_ dpooled: Tensor<S>) {
    let (input, plane) = planes
    var d = workspace.wide.tensor(Shape(plane.rows, config.width))
    averagePoolBackward(dpooled, plane, into: d)
    for (index, layer) in stem.enumerated().reversed() {
      let isFirst = index == 0
      let (from, inputs) = (isFirst ? input : plane, layer.convolution.inputs)
      if !isFirst, !stemIsKept {
        _ = stem[index - 1].normAgain(index == 1 ? input : plane, saved: savedStem[index - 1])
      }
      let x = (isFirst ? pixels : savedStem[index - 1].y).tensor(Shape(from.rows, inputs))
      // Pictures are not learned.
      let buffer = index == 2 ? workspace.narrow.0 : workspace.narrow.1
      let dx = isFirst ? nil : buffer.tensor(Shape(from.rows, inputs))
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
