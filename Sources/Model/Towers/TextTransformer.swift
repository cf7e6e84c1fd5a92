public import Tensor

// b captions of n tokens in all, w width, e embedding.

/// Captions end to end, without padding.
public struct TokenBatch: Sendable, Equatable {
  /// The token ids of all captions [n].
  public private(set) var ids: [Int32] = []
  /// The rows of each caption.
  public private(set) var sequences = Sequences(lengths: [])
  /// The number of captions.
  public var count: Int { sequences.count }

  /// Packs captions, each cut after the first occurrence of its largest id, the row that open_clip reads: with a causal
  /// mask no later row can matter. Traps if a caption has no tokens.
  public init(_ captions: some Collection<[Int32]>) { become(captions) }

  mutating func become(_ captions: some Collection<[Int32]>) {
    ids.removeAll(keepingCapacity: true)
    sequences.removeAll()
    for caption in captions {
      let end = caption.max().flatMap { caption.firstIndex(of: $0) }
      guard let end else { preconditionFailure("a caption without tokens") }
      ids += caption[...end]
      sequences.append(length: end + 1)
    }
  }
}

/// The text tower of open_clip, captions → features [b, e]: token and position embeddings, causal blocks, ln_final of
/// the end-of-text rows, and a projection without bias.
public final class TextTransformer<S: Scalar> {
  public let config: TextConfig
  /// The token embeddings [vocabulary, w].
  public let tokenEmbedding: Parameter<S>
  let positions: Parameter<S>
  public let transformer: Transformer<S>
  let head: TowerHead<S>
  let survivors = Survivors<S>()
  /// The stages, without `tokenEmbedding`, of which a forward reads some rows; it is ready with the first stage.
  public let stages: TowerStages
  private let (embedded, drows) = (Buffer<S>(), Buffer<S>())
  private var batch: TokenBatch?

  init(_ store: ParameterStore<S>, _ model: CLIPConfig, _ precision: ComputePrecision, _ recompute: Recompute) {
    config = model.text
    let w = config.width
    let scale = 1 / Double(w).squareRoot()
    let deep = scale / Double(2 * config.layers).squareRoot()
    tokenEmbedding = store.declare(CLIPConfig.tokenEmbedding, Shape(config.vocabularySize, w), .normal(0.02))
    positions = store.declare("positional_embedding", Shape(config.contextLength, w), .normal(0.01))
    transformer = Transformer(
      store, name: "transformer",
      TransformerConfig(
        width: w, blocks: config.blockSizes, survivors: survivors, causal: true, activation: model.activation,
        initial: (
          inProjection: .normal(scale), outProjection: .normal(deep),
          expand: .normal(1 / Double(2 * w).squareRoot()), contract: .normal(deep)
        ), precision: precision, recompute: recompute))
    let norm = LayerNorm(store, name: "ln_final", width: w, survivors: survivors)
    head = TowerHead(norm, store.declare("text_projection", Shape(w, model.embedding), .normal(scale)))
    stages = TowerStages(
      [[positions.extent]] + transformer.blocks.map { [$0.extent] } + [norm.extents + [head.projection.extent]])
  }

  /// Computes raw features [b, e] of captions, which are packed in the tower's own memory.
  public func forward(_ captions: some Collection<[Int32]>, mode: ForwardMode) -> Tensor<S> {
    var packed = batch ?? TokenBatch([])
    batch = nil  // the only other owner of the memory
    packed.become(captions)
    return forward(packed, mode: mode)
  }

  /// Allocates the memory for any `count` captions of `tokens` tokens in all, none longer than `longest`, in a forward
  /// and, if `mode` keeps activations, a backward. The gradients do not change if the parameters are finite.
  public func reserve(captions count: Int, tokens: Int, longest: Int, mode: ForwardMode) {
    precondition(
      count <= tokens && tokens <= count * longest, "\(count) captions of \(tokens) tokens, up to \(longest)")
    // This warm-up must not start any communication.
    let (willRun, ready) = (stages.willRun, stages.gradientsReady)
    (stages.willRun, stages.gradientsReady) = (nil, nil)
    defer { (stages.willRun, stages.gradientsReady) = (willRun, ready) }
    var left = tokens
    let captions = (0..<count).map { index in
      let length = min(longest, left - (count - 1 - index))
      left -= length
      return Array(repeating: Int32(0), count: length - 1) + [Int32(min(1, config.vocabularySize - 1))]
    }
    let features = forward(captions, mode: mode)
    if mode.keeps { backward(Tensor(features.shape)) }
  }

  /// Computes raw features [b, e] of captions, until the next forward. `observe` gets each block's name and output, of
  /// the last block the rows that are read.
  public func forward(
    _ batch: TokenBatch, mode: ForwardMode, observe: ((String, Tensor<S>) -> Void)? = nil
  ) -> Tensor<S> {
    self.batch = batch
    precondition(
      batch.sequences.longest <= config.contextLength,
      "a caption of \(batch.sequences.longest) tokens for a context of \(config.contextLength)")
    stages.willRun?(0)
    let x = embedded.tensor(Shape(batch.sequences.total, config.width))
    embed(batch.ids, batch.sequences, table: tokenEmbedding.value, positions: positions.value, into: x)
    // Of the last block the head reads the ends of text alone.
    let z = transformer.forward(
      x, batch.sequences, rows: batch.sequences.lasts, mode: mode, willRun: { stages.willRun?(1 + $0) },
      observe: { observe?("transformer.resblocks.\($0)", $1) })
    stages.willRun?(stages.extents.count - 1)
    return head.forward(z)
  }

  /// Adds to the gradients of all parameters, given that of the features [b, e] of the last forward in training.
  public func backward(_ dfeatures: Tensor<S>) {
    guard let batch else { preconditionFailure("backward before forward") }
    precondition(dfeatures.rows == batch.count, "a gradient of \(dfeatures.shape) for \(batch.count) captions")
    let dz = head.backward(dfeatures, x: transformer.output(Shape(batch.count, config.width)))
    stages.gradientsReady?(stages.extents.count - 1)
    let dx = drows.tensor(Shape(batch.sequences.total, config.width))
    transformer.backward(dx, x: embedded.tensor(dx.shape), batch.sequences, read: (batch.sequences.lasts, dz)) {
      stages.gradientsReady?(1 + $0)
    }
    embedBackward(dx, batch.ids, batch.sequences, dtable: tokenEmbedding.gradient, dpositions: positions.gradient)
    stages.gradientsReady?(0)
  }
}
