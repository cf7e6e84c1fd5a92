public import Tensor

// b images; rows are points with channels last, w width, e embedding.

/// The vision tower of open_clip's ModifiedResNet, images [b, 3, size, size] → features [b, e]: a stem of three
/// convolutions and a pool, four stages of bottlenecks that halve the image by pooling, and attention pooling.
public final class ModifiedResNet<S: Scalar>: VisionTower {
  public let config: VisionConfig
  private let stem: [(layer: NormedConvolution<S>, kept: NormedConvolution<S>.Activations)]
  private let layers: [[(block: Bottleneck<S>, kept: Bottleneck<S>.Activations)]]
  private let pool: AttentionPool<S>
  /// The stages are the stem, each block, and the pool.
  public let stages: TowerStages
  private let (pixels, roundedPixels) = (Buffer<S>(), BFloat16Buffer())
  private let stemOutput = MatrixOperandBuffer<S>()
  /// The input of the attention pool, later its gradient; and its output.
  private let (points, features) = (Buffer<S>(), Buffer<S>())
  private let poolActivations = AttentionPool<S>.Activations()
  private let passing: Bottleneck<S>.Activations
  private let recompute: Recompute
  private let workspace: ConvolutionWorkspace<S>
  /// While backward runs, each block with its input and the input's sizes; later only the list's memory is kept.
  private var steps: [(block: Bottleneck<S>, kept: Bottleneck<S>.Activations, plane: Plane, x: MatrixOperand<S>)] = []
  private var imageCount = 0

  init(_ store: ParameterStore<S>, _ model: CLIPConfig, _ precision: ComputePrecision, _ recompute: Recompute) {
    let (config, workspace) = (model.vision, ConvolutionWorkspace<S>(precision))
    let passing = Bottleneck<S>.Activations()
    (self.config, self.workspace, self.passing, self.recompute) = (config, workspace, passing, recompute)
    var ends = [store.count]
    // The outputs of the stem's layers are kept, or computed again in one memory from the inputs of their norms.
    let stemActive = recompute == .none ? nil : MatrixOperandBuffer<S>()
    stem = config.stem.enumerated().map { index, sizes in
      let layer = NormedConvolution(
        store, names: ("visual.conv\(index + 1)", "visual.bn\(index + 1)"), channels: (sizes.inputs, sizes.outputs),
        size: 3, stride: sizes.stride, workspace: workspace)
      return (layer: layer, kept: NormedConvolution<S>.Activations(y: stemActive))
    }
    ends.append(store.count)
    layers = config.bottlenecks.enumerated().map { stage, blocks in
      blocks.enumerated().map { index, sizes in
        let block = Bottleneck(store, name: "visual.layer\(stage + 1).\(index)", sizes, workspace)
        ends.append(store.count)
        return (block: block, kept: Bottleneck<S>.Activations(recompute, passing: passing))
      }
    }
    pool = AttentionPool(
      store, name: "visual.attnpool", points: config.grid * config.grid, width: config.outputWidth,
      embedding: model.embedding, heads: config.heads)
    ends.append(store.count)
    stages = TowerStages(zip(ends, ends.dropFirst()).map { [$0..<$1] })
  }

  /// The sizes of the images, and of the output of the stem's first convolution.
  private var planes: (input: Plane, stem: Plane) {
    let input = Plane(images: imageCount, height: config.imageSize, width: config.imageSize)
    return (input, input.convolved(stride: 2))
  }

  public func forward(
    _ images: Tensor<S>, kept: ArraySlice<Int>?, mode: ForwardMode, observe: ((String, Tensor<S>) -> Void)?
  ) -> Tensor<S> {
    precondition(kept == nil, "a ResNet leaves out no patches")
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
    for (layer, kept) in stem {
      x = layer.forward(x, plane, mode: mode, activations: kept)
      plane = layer.convolution.output(plane)
    }
    let pooled = stemOutput.operand(Shape(plane.halved.rows, x.columns), workspace.precision)
    averagePool(x, plane, into: pooled)
    (x, plane) = (pooled, plane.halved)
    see("visual.avgpool", x, plane)
    var part = 0
    for (stage, blocks) in layers.enumerated() {
      for (block, kept) in blocks {
        part += 1
        stages.willRun?(part)
        x = block.forward(x, plane, mode: mode, activations: mode.keeps ? kept : passing)
        plane = block.sizes.output(plane)
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
    let precision = workspace.precision
    defer { steps.removeAll(keepingCapacity: true) }
    var plane = planes.stem.halved
    var x = stemOutput.operand(Shape(plane.rows, config.width), precision)
    for (block, kept) in layers.joined() {
      steps.append((block, kept, plane, x))
      plane = block.sizes.output(plane)
      x = kept.conv3.y.operand(Shape(plane.rows, block.sizes.outputs), precision)
    }
    let dpoints = points.tensor(x.shape)
    pool.backward(dfeatures, images: imageCount, activations: poolActivations, dx: dpoints)
    // Make them as large as they get: a buffer that grew later would be held beside its former memory.
    let most = steps.reduce(x.shape.count) { max($0, $1.x.shape.count) }
    var buffers = workspace.blocks
    for buffer in [buffers.0, buffers.1] { _ = buffer.operand(Shape(most), precision) }
    var d: (MatrixOperand<S>, MatrixOperand<S>?) = (buffers.0.operand(x.shape, precision), nil)
    copy(dpoints, into: d.0)
    stages.gradientsReady?(1 + steps.count)
    for index in steps.indices.reversed() {
      let step = steps[index]
      // The activations of the last block are still there.
      if recompute != .none, index < steps.count - 1 { step.block.restore(step.x, step.plane, activations: step.kept) }
      d = step.block.backward(d.0, adding: d.1, x: step.x, step.plane, activations: step.kept, buffers: buffers)
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
    for index in [2, 1] {
      let ((before, keptBefore), (layer, kept)) = (stem[index - 1], stem[index])
      if recompute != .none { _ = before.normAgain(index == 1 ? input : plane, activations: keptBefore) }
      let x = keptBefore.y.operand(Shape(plane.rows, layer.convolution.inputs), precision)
      let dx = (index == 2 ? workspace.narrow.0 : workspace.narrow.1).operand(x.shape, precision)
      layer.backward(d, x: x, plane, activations: kept, into: (d, dx))
      d = dx
    }
    // Images need no gradient.
    let x = roundedPixels.kept(pixels.tensor(Shape(input.rows, 3)), precision)
    stem[0].layer.backward(d, x: x, input, activations: stem[0].kept, into: (d, nil))
  }

  private var norms: [BatchNorm<S>] { stem.map { $0.layer.norm } + layers.joined().flatMap { $0.block.norms } }

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
