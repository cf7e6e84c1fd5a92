public import Tensor

/// The sizes of a transformer, and the initial values of its weights.
struct TransformerConfig<S: Scalar> {
  var width: Int
  var blocks: BlockSizes
  var survivors: Survivors<S>
  var causal: Bool
  var activation: Activation
  var initial: (inProjection: Initial, outProjection: Initial, expand: Initial, contract: Initial)
  var precision: ComputePrecision
  var recompute = Recompute.none
}

/// A stack of residual attention blocks.
public final class Transformer<S: Scalar> {
  public let blocks: [ResidualAttentionBlock<S>]
  private let activations: [ResidualAttentionBlock<S>.Activations]
  private let passing = ResidualAttentionBlock<S>.Activations()
  private let workspace: Workspace<S>

  init(_ store: ParameterStore<S>, name: String, _ config: TransformerConfig<S>) {
    workspace = Workspace(config.precision)
    blocks = config.blocks.heads.indices.map {
      ResidualAttentionBlock(store, name: "\(name).resblocks.\($0)", config, index: $0)
    }
    activations = blocks.map { [passing] _ in .init(config.recompute, passing: passing) }
  }

  /// x [n, w] → [n, w], or [b, w] if only some `rows` of the output are read, one of each of b sequences: the last
  /// block then computes little of the others. In training, what backward needs is kept until the next forward; this
  /// includes x, whose memory must not change. `willRun` is called before each block reads its parameters, `observe`
  /// with each block's output.
  func forward(
    _ x: Tensor<S>, _ sequences: Sequences, rows: [Int]? = nil, mode: ForwardMode,
    willRun: (Int) -> Void = { _ in }, observe: ((Int, Tensor<S>) -> Void)? = nil
  ) -> Tensor<S> {
    var x = x
    for (index, block) in blocks.enumerated() {
      willRun(index)
      x = block.forward(
        x, sequences, rows: index == blocks.count - 1 ? rows : nil,
        activations: mode.keeps ? activations[index] : passing, workspace: workspace)
      observe?(index, x)
    }
    return x
  }

  /// Returns the output of the last forward in training, which had this shape.
  func output(_ shape: Shape) -> Tensor<S> { activations[blocks.count - 1].output.tensor(shape) }

  /// Replaces the output's gradient in dx [n, w] with that of x. If only some rows were `read`, their gradient dy [b,
  /// w] comes in its place, and is lost. `ready` gets each block whose gradients are complete.
  func backward(
    _ dx: Tensor<S>, x: Tensor<S>, _ sequences: Sequences, read: (rows: [Int], dy: Tensor<S>)? = nil,
    ready: (Int) -> Void = { _ in }
  ) {
    for (index, block) in blocks.enumerated().reversed() {
      let (input, kept) = (index == 0 ? x : activations[index - 1].output.tensor(x.shape), activations[index])
      // The activations of the last block are still there.
      if kept.recompute == .blocks, index < blocks.count - 1 {
        block.restore(input, sequences, activations: kept, workspace: workspace)
      }
      block.backward(
        dx, x: input, sequences, read: index == blocks.count - 1 ? read : nil, activations: kept, workspace: workspace)
      ready(index)
    }
  }
}

/// Scratch that the blocks of a tower share, because none of it outlives a block.
public final class Workspace<S: Scalar> {
  // [n, up to 4w], [n, w] and [n, w]; the gradient of a block's output [n, w], rounded.
  let (wide, narrow) = (MatrixOperandBuffer<S>(), MatrixOperandBuffer<S>())
  let (branch, slope) = (Buffer<S>(), BFloat16Buffer())
  // The rows of the last block's attention that have queries, and their gradient, [b, w].
  let (asking, dasking) = (MatrixOperandBuffer<S>(), Buffer<S>())
  let tiles = AttentionTiles<S>()
  let precision: ComputePrecision
  public init(_ precision: ComputePrecision = .fp32) { self.precision = precision }
}
