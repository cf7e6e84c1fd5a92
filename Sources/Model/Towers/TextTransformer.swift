public import Tensor

// b captions, n rows of all of them together, w width, e embedding.

/// Captions laid end to end without padding.
public struct TokenBatch: Sendable, Equatable {
  public private(set) var ids: [Int32] = []
  public private(set) var sequences = Sequences(lengths: [])
  /// The row of each caption's end-of-text token: its last.
  private(set) var endRows: [Int] = []
  private var lengths: [Int] = []

  /// Each caption is cut after the first occurrence of its largest id, which is where open_clip reads it: with a causal
  /// mask nothing behind that row can matter, padding least of all. A caption without tokens is a mistake.
  public init(_ captions: some Collection<[Int32]>) { become(captions) }

  /// Other captions, in the same memory.
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

/// Captions to features [b, e], as open_clip's text tower computes them: token and position embeddings, causal blocks,
/// ln_final of the end-of-text row, projection without bias.
public final class TextTransformer<S: Scalar> {
  public let config: TextConfig
  /// The embeddings of tokens, one a row.
  public let table: Parameter<S>
  let positions: Parameter<S>
  public let transformer: Transformer<S>
  let norm: LayerNorm<S>
  let projection: Parameter<S>
  let survivors = Survivors<S>()
  /// Without `table`, of which a forward reads no more than its tokens' rows; its gradient is ready with the first
  /// stage's.
  public let stages: TowerStages

  private let embedded = Buffer<S>()
  private let ends = Buffer<S>()
  private let normed = Buffer<S>()
  private let saved = LayerNorm<S>.Saved()
  private let features = Buffer<S>()
  private let drows = Buffer<S>()
  private let dends = Buffer<S>()
  private let dnormed = Buffer<S>()
  private var batch: TokenBatch?

  init(
    _ store: ParameterStore<S>, _ config: TextConfig, embedding: Int, activation: Activation,
    precision: Precision = .fp32, recompute: Recompute = .none
  ) {
    self.config = config
    let w = config.width
    let scale = 1 / Double(w).squareRoot()
    let deep = scale / Double(2 * config.layers).squareRoot()
    table = store.declare("token_embedding.weight", Shape(config.vocabularySize, w), .normal(0.02))
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

  /// `forward` of captions, whose tokens are laid out in memory of the tower's own.
  public func forward(_ captions: some Collection<[Int32]>, keeping: Bool) -> Tensor<S> {
    if batch == nil { batch = TokenBatch([]) }
    batch?.become(captions)
    return forward(keeping: keeping, observe: nil)
  }

  /// Takes memory for any captions of so many tokens in all, none longer than `longest`: what they need later is here
  /// then. `keeping` as for `forward`; the parameters' gradients stay as they are where the parameters are finite.
  public func reserve(captions count: Int, tokens: Int, longest: Int, keeping: Bool) {
    precondition(
      count <= tokens && tokens <= count * longest, "\(count) captions of \(tokens) tokens, up to \(longest)")
    // Nobody needs to hear of parameters that are read for nothing.
    let (willRun, ready) = (stages.willRun, stages.gradientsReady)
    (stages.willRun, stages.gradientsReady) = (nil, nil)
    defer { (stages.willRun, stages.gradientsReady) = (willRun, ready) }
    var left = tokens
    let captions = (0..<count).map { index in
      let length = min(longest, left - (count - 1 - index))
      left -= length
      return Array(repeating: Int32(0), count: length - 1) + [Int32(min(1, config.vocabularySize - 1))]
    }
    let features = forward(captions, keeping: keeping)
    if keeping { backward(Tensor(features.shape)) }
  }

  /// Captions to raw features [b, e], which stay until the next forward. With `keeping`, what backward needs is kept.
  /// `observe` sees each layer's output under the layer's name.
  public func forward(
    _ batch: TokenBatch, keeping: Bool, observe: ((String, Tensor<S>) -> Void)? = nil
  ) -> Tensor<S> {
    self.batch = batch
    return forward(keeping: keeping, observe: observe)
  }

  private func forward(keeping: Bool, observe: ((String, Tensor<S>) -> Void)?) -> Tensor<S> {
    guard let batch else { preconditionFailure("forward without captions") }
    precondition(
      batch.sequences.longest <= config.contextLength,
      "a caption of \(batch.sequences.longest) tokens for a context of \(config.contextLength)")
    stages.willRun?(0)
    let w = config.width
    let x = embedded.tensor(Shape(batch.sequences.total, w))
    embed(batch.ids, batch.sequences, table: table.value, positions: positions.value, into: x)
    let z = transformer.forward(
      x, batch.sequences, keeping: keeping, willRun: { stages.willRun?(1 + $0) },
      observe: { observe?("transformer.resblocks.\($0)", $1) })
    stages.willRun?(stages.extents.count - 1)
    let rows = ends.tensor(Shape(batch.count, w))
    gatherRows(z, batch.endRows, into: rows)
    let last = normed.tensor(rows.shape)
    norm.forward(rows, into: last, saved: saved)
    let out = features.tensor(Shape(batch.count, projection.shape[1]))
    matmul(last, projection.value, into: out)
    return out
  }

  /// Adds the gradients of all parameters, given that of the features [b, e] of the last forward with `keeping`.
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
    norm.backward(dlast, x: ends.tensor(shape), saved: saved, dx: drow)
    stages.gradientsReady?(stages.extents.count - 1)
    let dx = drows.tensor(Shape(batch.sequences.total, w))
    scatterRows(drow, batch.endRows, into: dx)
    transformer.backward(dx, x: embedded.tensor(dx.shape), batch.sequences) { stages.gradientsReady?(1 + $0) }
    embedBackward(dx, batch.ids, batch.sequences, dtable: table.gradient, dpositions: positions.gradient)
    stages.gradientsReady?(0)
  }
}
