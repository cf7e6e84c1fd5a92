public import Tensor

// b images of g × g patches, n = b (1 + g²) rows, w width, e embedding.

/// The vision tower that computes features [b, e] of images [b, 3, size, size] as open_clip's VisionTransformer does:
/// patch embedding without bias, a class token in front, positions, ln_pre, blocks, ln_post of the class token,
/// projection.
public final class VisionTransformer<S: Scalar>: VisionTower {
  public let config: VisionConfig
  let classEmbedding: Parameter<S>
  let positions: Parameter<S>
  let projection: Parameter<S>
  let convolution: Parameter<S>
  let normBefore: LayerNorm<S>
  public let transformer: Transformer<S>
  let normAfter: LayerNorm<S>
  let survivors = Survivors<S>()
  public let stages: TowerStages

  private let patchRows = MatrixOperandBuffer<S>()
  /// The gradient of one image's rows, rounded for a bf16 product.
  private let rounding = BFloat16Buffer()
  private let precision: ComputePrecision
  private let embedded = Buffer<S>()
  private let normed = Buffer<S>()
  private let activationsBefore = LayerNorm<S>.Activations()
  private let classRows = Buffer<S>()
  private let classNormed = Buffer<S>()
  private let activationsAfter = LayerNorm<S>.Activations()
  private let features = Buffer<S>()
  private let dtokens = Buffer<S>()
  private let dembedded = Buffer<S>()
  private let dclass = Buffer<S>()
  private let dclassNormed = Buffer<S>()
  private var imageCount = 0
  /// The tokens of `imageCount` images, and the rows of their class tokens.
  private var sequences = Sequences(lengths: [])
  private var classTokens: [Int] = []

  init(
    _ store: ParameterStore<S>, _ config: VisionConfig, embedding: Int, activation: Activation,
    precision: ComputePrecision = .fp32, recompute: Recompute = .none
  ) {
    self.config = config
    self.precision = precision
    let w = config.width
    let scale = 1 / Double(w).squareRoot()
    let fanIn = Double(3 * config.patchSize * config.patchSize)
    classEmbedding = store.declare("visual.class_embedding", Shape(w), .normal(scale))
    positions = store.declare("visual.positional_embedding", Shape(config.tokens, w), .normal(scale))
    projection = store.declare("visual.proj", Shape(w, embedding), .normal(scale))
    convolution = store.declare(
      "visual.conv1.weight", Shape(w, 3, config.patchSize, config.patchSize), .uniform(1 / fanIn.squareRoot()))
    normBefore = LayerNorm(store, name: "visual.ln_pre", width: w, survivors: survivors)
    transformer = Transformer(
      store, name: "visual.transformer",
      TransformerConfig(
        width: w, blocks: config.blockSizes, survivors: survivors, causal: false, activation: activation,
        // Xavier's uniform values for the fused projection, and PyTorch's for linear maps in the rest.
        initial: .init(
          inProjection: .uniform((1.5 / Double(w)).squareRoot()), outProjection: .uniform(scale),
          expand: .uniform(scale), contract: .uniform(1 / Double(config.hidden).squareRoot())),
        precision: precision, recompute: recompute))
    normAfter = LayerNorm(store, name: "visual.ln_post", width: w, survivors: survivors)
    stages = TowerStages(
      [[classEmbedding, positions, convolution].map(\.extent) + normBefore.extents]
        + transformer.extents.map { [$0] } + [[projection.extent] + normAfter.extents])
  }

  private var patchLength: Int { 3 * config.patchSize * config.patchSize }

  private func arrange(images count: Int) {
    imageCount = count
    guard sequences.count != count else { return }
    sequences.become(lengths: repeatElement(config.tokens, count: count))
    classTokens.removeAll(keepingCapacity: true)
    for image in 0..<count { classTokens.append(image * config.tokens) }
  }

  public func forward(
    _ images: Tensor<S>, mode: ForwardMode, observe: ((String, Tensor<S>) -> Void)? = nil
  ) -> Tensor<S> {
    let b = images.shape[0]
    precondition(
      images.shape == Shape(b, 3, config.imageSize, config.imageSize), "images of \(images.shape) for \(config)")
    arrange(images: b)
    stages.willRun?(0)
    let (tokens, w) = (config.tokens, config.width)
    let grid = config.grid * config.grid
    let rows = patchRows.operand(Shape(b * grid, patchLength), precision)
    patches(of: images, size: config.patchSize, into: rows)

    // Write positions first; then add the patches to theirs and the class embedding to the first.
    let x = embedded.tensor(Shape(b * tokens, w))
    let kernel = convolution.operand(like: rows).reshaped(Shape(w, patchLength))
    for image in 0..<b {
      let block = x.rows(image * tokens..<(image + 1) * tokens)
      copy(positions.value, into: block)
      add(classEmbedding.value, to: block.rows(0..<1))
      matmul(
        rows.rows(image * grid..<(image + 1) * grid), kernel, into: block.rows(1..<tokens), transposeB: true,
        accumulate: true)
    }
    let y = normed.tensor(x.shape)
    normBefore.forward(x, into: y, activations: activationsBefore)
    observe?("visual.ln_pre", y)

    let z = transformer.forward(
      y, sequences, mode: mode, willRun: { stages.willRun?(1 + $0) },
      observe: { observe?("visual.transformer.resblocks.\($0)", $1) })
    stages.willRun?(stages.extents.count - 1)
    let first = classRows.tensor(Shape(b, w))
    gatherRows(z, classTokens, into: first)
    let last = classNormed.tensor(Shape(b, w))
    normAfter.forward(first, into: last, activations: activationsAfter)
    let out = features.tensor(Shape(b, projection.shape[1]))
    matmul(last, projection.value, into: out)
    return out
  }

  public func backward(_ dfeatures: Tensor<S>) {
    let b = imageCount
    precondition(dfeatures.rows == b, "a gradient of \(dfeatures.shape) for \(b) images")
    let (tokens, w) = (config.tokens, config.width)
    let grid = config.grid * config.grid
    let last = classNormed.tensor(Shape(b, w))
    let dlast = dclassNormed.tensor(Shape(b, w))
    matmul(dfeatures, projection.value, into: dlast, transposeB: true)
    matmul(last, dfeatures, into: projection.gradient, transposeA: true, beta: 1)
    let dfirst = dclass.tensor(Shape(b, w))
    fill(dfirst, 0)
    normAfter.backward(dlast, x: classRows.tensor(Shape(b, w)), activations: activationsAfter, dx: dfirst)
    stages.gradientsReady?(stages.extents.count - 1)

    let dz = dtokens.tensor(Shape(b * tokens, w))
    scatterRows(dfirst, classTokens, into: dz)
    let y = normed.tensor(Shape(b * tokens, w))
    transformer.backward(dz, x: y, sequences) { stages.gradientsReady?(1 + $0) }

    let dx = dembedded.tensor(Shape(b * tokens, w))
    fill(dx, 0)
    normBefore.backward(dz, x: embedded.tensor(Shape(b * tokens, w)), activations: activationsBefore, dx: dx)
    let rows = patchRows.operand(Shape(b * grid, patchLength), precision)
    let dkernel = convolution.gradient.reshaped(Shape(w, patchLength))
    for image in 0..<b {
      let block = dx.rows(image * tokens..<(image + 1) * tokens)
      add(block, to: positions.gradient)
      add(block.rows(0..<1), to: classEmbedding.gradient)
      matmul(
        rounding.operand(block.rows(1..<tokens), precision), rows.rows(image * grid..<(image + 1) * grid),
        into: dkernel, transposeA: true, accumulate: true)
    }
    stages.gradientsReady?(0)
  }

  // No layer computes over more than one image.
  public func freeze(_ frozen: Frozen) {}
  public func synchronize(over ranks: any Ranks<S>) {}
  public func moveStatistics() {}
  public func dropStatistics() {}
}
