public import Tensor

// b images of g × g patches, t tokens of an image: 1 + g², or fewer with patch dropout; n = b t rows, w width,
// e embedding.

/// The vision tower of open_clip's VisionTransformer, images [b, 3, size, size] → features [b, e]: patch embedding
/// without bias, a class token in front, positions, ln_pre, blocks, ln_post of the class token, projection.
public final class VisionTransformer<S: Scalar>: VisionTower {
  public let config: VisionConfig
  let classEmbedding: Parameter<S>
  let positions: Parameter<S>
  let convolution: Parameter<S>
  let normBefore: LayerNorm<S>
  public let transformer: Transformer<S>
  let head: TowerHead<S>
  let survivors = Survivors<S>()
  public let stages: TowerStages
  private let patchRows = MatrixOperandBuffer<S>()
  /// The gradient of one image's rows, rounded for a bf16 product.
  private let rounding = BFloat16Buffer()
  private let precision: ComputePrecision
  private let activationsBefore = LayerNorm<S>.Activations()
  private let (embedded, normed, dembedded, dtokens) = (Buffer<S>(), Buffer<S>(), Buffer<S>(), Buffer<S>())
  private var sequences = Sequences(lengths: [])
  /// The tokens of each image [b t] in the last forward, the class token 0 first; empty: all.
  private var kept: [Int] = []

  init(_ store: ParameterStore<S>, _ model: CLIPConfig, _ precision: ComputePrecision, _ recompute: Recompute) {
    config = model.vision
    self.precision = precision
    let (w, patch) = (config.width, config.patchSize)
    let scale = 1 / Double(w).squareRoot()
    classEmbedding = store.declare("visual.class_embedding", Shape(w), .normal(scale))
    positions = store.declare("visual.positional_embedding", Shape(config.tokens, w), .normal(scale))
    let projection = store.declare("visual.proj", Shape(w, model.embedding), .normal(scale))
    convolution = store.declare(
      "visual.conv1.weight", Shape(w, 3, patch, patch), .uniform(1 / Double(3 * patch * patch).squareRoot()),
      isOperand: true)
    normBefore = LayerNorm(store, name: "visual.ln_pre", width: w, survivors: survivors)
    transformer = Transformer(
      store, name: "visual.transformer",
      TransformerConfig(
        width: w, blocks: config.blockSizes, survivors: survivors, causal: false, activation: model.activation,
        // Xavier's uniform values for the fused projection, and PyTorch's for linear maps in the rest.
        initial: (
          inProjection: .uniform((1.5 / Double(w)).squareRoot()), outProjection: .uniform(scale),
          expand: .uniform(scale), contract: .uniform(1 / Double(config.hidden).squareRoot())
        ), precision: precision, recompute: recompute))
    head = TowerHead(LayerNorm(store, name: "visual.ln_post", width: w, survivors: survivors), projection)
    stages = TowerStages(
      [[classEmbedding, positions, convolution].map(\.extent) + normBefore.extents]
        + transformer.blocks.map { [$0.extent] } + [[projection.extent] + head.norm.extents])
  }

  private var patchLength: Int { 3 * config.patchSize * config.patchSize }
  /// The number of an image's tokens in the last forward.
  private var tokenCount: Int { kept.isEmpty ? config.tokens : config.trainedTokens }

  public func forward(
    _ images: Tensor<S>, kept tokensOfImages: ArraySlice<Int>?, mode: ForwardMode,
    observe: ((String, Tensor<S>) -> Void)?
  ) -> Tensor<S> {
    let b = images.shape[0]
    precondition(
      images.shape == Shape(b, 3, config.imageSize, config.imageSize), "images of \(images.shape) for \(config)")
    kept.removeAll(keepingCapacity: true)
    if let tokensOfImages {
      precondition(
        mode != .evaluation && tokensOfImages.count == b * config.trainedTokens,
        "\(tokensOfImages.count) kept tokens of \(b) images")
      kept.append(contentsOf: tokensOfImages)
    }
    let (tokens, patchCount, w) = (tokenCount, tokenCount - 1, config.width)
    sequences.become(lengths: repeatElement(tokens, count: b))
    stages.willRun?(0)
    let rows = patchRows.operand(Shape(b * patchCount, patchLength), precision)
    patches(of: images, size: config.patchSize, tokens: kept, into: rows)

    // Write positions first; then add the patches to theirs and the class embedding to the first.
    let x = embedded.tensor(Shape(b * tokens, w))
    let kernel = convolution.operand(like: rows).reshaped(Shape(w, patchLength))
    if !kept.isEmpty { gatherRows(positions.value, kept, into: x) }
    for image in 0..<b {
      let block = x.rows(image * tokens..<(image + 1) * tokens)
      if kept.isEmpty { copy(positions.value, into: block) }
      add(classEmbedding.value, to: block.rows(0..<1))
      matmul(
        rows.rows(image * patchCount..<(image + 1) * patchCount), kernel, into: block.rows(1..<tokens),
        transposeB: true, accumulate: true)
    }
    let y = normed.tensor(x.shape)
    normBefore.forward(x, into: .fp32(y), activations: activationsBefore)
    observe?("visual.ln_pre", y)
    // Of the last block the head reads the class tokens alone.
    let z = transformer.forward(
      y, sequences, rows: sequences.firsts, mode: mode, willRun: { stages.willRun?(1 + $0) },
      observe: { observe?("visual.transformer.resblocks.\($0)", $1) })
    stages.willRun?(stages.extents.count - 1)
    return head.forward(z)
  }

  public func backward(_ dfeatures: Tensor<S>) {
    let b = sequences.count
    precondition(dfeatures.rows == b, "a gradient of \(dfeatures.shape) for \(b) images")
    let (tokens, patchCount, w) = (tokenCount, tokenCount - 1, config.width)
    let dz = head.backward(dfeatures, x: transformer.output(Shape(b, w)))
    stages.gradientsReady?(stages.extents.count - 1)
    let dy = dtokens.tensor(Shape(b * tokens, w))
    transformer.backward(dy, x: normed.tensor(dy.shape), sequences, read: (sequences.firsts, dz)) {
      stages.gradientsReady?(1 + $0)
    }
    let dx = dembedded.tensor(dy.shape)
    fill(dx, 0)
    normBefore.backward(dy, x: embedded.tensor(dy.shape), activations: activationsBefore, dx: dx)
    let rows = patchRows.operand(Shape(b * patchCount, patchLength), precision)
    let dkernel = convolution.gradient.reshaped(Shape(w, patchLength))
    if !kept.isEmpty { addRows(dx, kept, to: positions.gradient) }
    for image in 0..<b {
      let block = dx.rows(image * tokens..<(image + 1) * tokens)
      if kept.isEmpty { add(block, to: positions.gradient) }
      add(block.rows(0..<1), to: classEmbedding.gradient)
      matmul(
        rounding.operand(block.rows(1..<tokens), precision),
        rows.rows(image * patchCount..<(image + 1) * patchCount), into: dkernel, transposeA: true, accumulate: true)
    }
    stages.gradientsReady?(0)
  }

  // No layer computes over more than one image.
  public func freeze(_ frozen: Frozen) {}
  public func synchronize(over ranks: any Ranks<S>) {}
  public func moveStatistics() {}
  public func dropStatistics() {}
}
