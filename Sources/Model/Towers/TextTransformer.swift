public import Tensor

// b captions of n tokens in all, w width, e embedding.

/// Captions end to end, without padding.
public struct TokenBatch: Sendable, Equatable {
  public private(set) var ids: [Int32] = []
  public private(set) var sequences = Sequences(lengths: [])
  /// The row of each caption's end-of-text token, its last row.
  private(set) var endRows: [Int] = []
  private var lengths: [Int] = []

  /// Packs captions, each cut after the first occurrence of its largest id, the row that open_clip reads: with a causal
  /// mask no later row can matter. Traps if a caption has no tokens.
  public init(_ captions: some Collection<[Int32]>) { become(captions) }

  /// Replaces the captions, in the same memory.
  mutating func become(_ captions: some Collection<[Int32]>) {
    ids.removeAll(keepingCapacity: true)
    endRows.removeAll(keepingCapacity: true)
    lengths.removeAll(keepingCapacity: true)
    for caption in captions {
      guard let largest = caption.max(), let end = caption.firstIndex(of: largest) else {
        preconditionFailure("a caption without tokens")
      }
      ids += caption[...end]
      lengths.append(end + 1)
      endRows.append(ids.count - 1)
    }
    sequences.become(lengths: lengths)
  }

  public var count: Int { sequences.count }
}

/// The text tower, which computes features [b, e] of captions as open_clip's does: token and position embeddings,
/// causal blocks, ln_final of the end-of-text rows, and a projection without bias.
public final class TextTransformer<S: Scalar> {
  public let config: TextConfig
  /// The token embeddings [vocabulary, w].
  public let tokenEmbedding: Parameter<S>
  let positions: Parameter<S>
  public let transformer: Transformer<S>
  let norm: LayerNorm<S>
  let projection: Parameter<S>
  let survivors = Survivors<S>()
  /// The stages do not include `tokenEmbedding`, of which a forward reads only its tokens' rows; its gradient is
  /// complete together with those of the first stage.
  public let stages: TowerStages

  private let embedded = Buffer<S>()
  private let ends = Buffer<S>()
  private let normed = Buffer<S>()
  private let activations = LayerNorm<S>.Activations()
  private let features = Buffer<S>()
  private let drows = Buffer<S>()
  private let dends = Buffer<S>()
  private let dnormed = Buffer<S>()
  private var batch: TokenBatch?

  init(
    _ store: ParameterStore<S>, _ config: TextConfig, embedding: Int, activation: Activation,
    precision: ComputePrecision = .fp32, recompute: Recompute = .none
  ) {
    self.config = config
    let w = config.width
    let scale = 1 / Double(w).squareRoot()
    let deep = scale / Double(2 * config.layers).squareRoot()
    tokenEmbedding = store.declare(CLIPConfig.tokenEmbedding, Shape(config.vocabularySize, w), .normal(0.02))
    positions = store.declare("positional_embedding", Shape(config.contextLength, w), .normal(0.01))
    transformer = Transformer(
      store, name: "transformer",
      TransformerConfig(
        width: w, blocks: config.blockSizes, survivors: survivors, causal: true, activation: activation,
        initial: .init(
          inProjection: .normal(scale), outProjection: .normal(deep),
          expand: .normal(1 / Double(2 * w).squareRoot()), contract: .normal(deep)),
        precision: precision, recompute: recompute))
    norm = LayerNorm(store, name: "ln_final", width: w, survivors: survivors)
    projection = store.declare("text_projection", Shape(w, embedding), .normal(scale))
    stages = TowerStages(
      [[positions.extent]] + transformer.extents.map { [$0] } + [norm.extents + [projection.extent]])
  }

  /// Computes raw features [b, e] of captions, which are packed in the tower's own memory.
  public func forward(_ captions: some Collection<[Int32]>, mode: ForwardMode) -> Tensor<S> {
    if batch == nil { batch = TokenBatch([]) }
    batch?.become(captions)
    return forward(mode: mode, observe: nil)
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

  /// Computes raw features [b, e] of captions; they stay until the next forward. In training, what backward needs is
  /// kept. `observe` is called with the output of each block and its name.
  public func forward(
    _ batch: TokenBatch, mode: ForwardMode, observe: ((String, Tensor<S>) -> Void)? = nil
  ) -> Tensor<S> {
    self.batch = batch
    return forward(mode: mode, observe: observe)
  }

  private func forward(mode: ForwardMode, observe: ((String, Tensor<S>) -> Void)?) -> Tensor<S> {
    guard let batch else { preconditionFailure("forward without captions") }
    precondition(
      batch.sequences.longest <= config.contextLength,
      "a caption of \(batch.sequences.longest) tokens for a context of \(config.contextLength)")
    stages.willRun?(0)
    let w = config.width
    let x = embedded.tensor(Shape(batch.sequences.total, w))
    embed(batch.ids, batch.sequences, table: tokenEmbedding.value, positions: positions.value, into: x)
    let z = transformer.forward(
      x, batch.sequences, mode: mode, willRun: { stages.willRun?(1 + $0) },
      observe: { observe?("transformer.resblocks.\($0)", $1) })
    stages.willRun?(stages.extents.count - 1)
    let rows = ends.tensor(Shape(batch.count, w))
    gatherRows(z, batch.endRows, into: rows)
    let last = normed.tensor(rows.shape)
    norm.forward(rows, into: last, activations: activations)
    let out = features.tensor(Shape(batch.count, projection.shape[1]))
    matmul(last, projection.value, into: out)
    return out
  }

  /// Adds to the gradients of all parameters, given that of the features [b, e] of the last forward in training.
  public func backward(_ dfeatures: Tensor<S>) {
    guard let batch else { preconditionFailure("backward before forward") }
    precondition(dfeatures.rows == batch.count, "a gradient of \(dfeatures.shape) for \(batch.count) captions")
    let w = config.width
    let shape = Shape(batch.count, w)
    let dlast = dnormed.tensor(shape)
    matmul(dfeatures, projection.value, into: dlast, transposeB: true)
    matmul(normed.tensor(shape), dfeatures, into: projection.gradient, transposeA: true, beta: 1)
    let drow = dends.tensor(shape)
    fill(drow, 0)
    norm.backward(dlast, x: ends.tensor(shape), activations: activations, dx: drow)
    stages.gradientsReady?(stages.extents.count - 1)
    let dx = drows.tensor(Shape(batch.sequences.total, w))
    scatterRows(drow, batch.endRows, into: dx)
    transformer.backward(dx, x: embedded.tensor(dx.shape), batch.sequences) { stages.gradientsReady?(1 + $0) }
    embedBackward(dx, batch.ids, batch.sequences, dtable: tokenEmbedding.gradient, dpositions: positions.gradient)
    stages.gradientsReady?(0)
  }
}
