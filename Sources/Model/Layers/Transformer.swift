public import Tensor

/// The sizes of a transformer, and the initial values of its weights.
struct TransformerConfig<S: Scalar> {
  struct InitialValues {
    var inProjection: Initial
    var outProjection: Initial
    var expand: Initial
    var contract: Initial
  }

  var width: Int
  /// The heads and hidden units of each block.
  var blocks: BlockSizes
  var survivors: Survivors<S>
  var causal: Bool
  var activation: Activation
  var initial: InitialValues
  var precision: ComputePrecision
  var recompute = Recompute.none
}

/// A stack of residual attention blocks.
public final class Transformer<S: Scalar> {
  public let blocks: [ResidualAttentionBlock<S>]
  /// The range of each block's parameters.
  let extents: [Range<Int>]
  private let activations: [ResidualAttentionBlock<S>.Activations]
  private let passing = ResidualAttentionBlock<S>.Activations()
  let workspace: Workspace<S>

  init(_ store: ParameterStore<S>, name: String, _ config: TransformerConfig<S>) {
    workspace = Workspace(config.precision)
    var extents: [Range<Int>] = []
    blocks = config.blocks.heads.indices.map {
      let start = store.count
      defer { extents.append(start..<store.count) }
      return ResidualAttentionBlock(store, name: "\(name).resblocks.\($0)", config, index: $0)
    }
    self.extents = extents
    activations = blocks.map { [passing] _ in
      ResidualAttentionBlock<S>.Activations(config.recompute, passing: passing)
    }
  }

  /// x [n, w] → [n, w]. In training, what backward needs is kept until the next forward; this includes x, whose memory
  /// must not change. `willRun` is called before each block reads its parameters, `observe` with each block's output.
  func forward(
    _ x: Tensor<S>, _ sequences: Sequences, mode: ForwardMode, willRun: (Int) -> Void = { _ in },
    observe: ((Int, Tensor<S>) -> Void)? = nil
  ) -> Tensor<S> {
    var x = x
    for (index, block) in blocks.enumerated() {
      willRun(index)
      x = block.forward(x, sequences, activations: mode.keeps ? activations[index] : passing, workspace: workspace)
      observe?(index, x)
    }
    return x
  }

  /// Replaces the gradient of the output in dx [n, w] with that of the input x. `ready` is called with each block whose
  /// parameters' gradients are complete.
  func backward(_ dx: Tensor<S>, x: Tensor<S>, _ sequences: Sequences, ready: (Int) -> Void = { _ in }) {
    for index in blocks.indices.reversed() {
      let input = index == 0 ? x : activations[index - 1].output.tensor(x.shape)
      // The activations of the last block are still there.
      if activations[index].recompute == .blocks, index < blocks.count - 1 {
        blocks[index].restore(input, sequences, activations: activations[index], workspace: workspace)
      }
      blocks[index].backward(dx, x: input, sequences, activations: activations[index], workspace: workspace)
      ready(index)
    }
  }
}

/// Scratch that the blocks of a tower share, because none of it outlives a block.
public final class Workspace<S: Scalar> {
  /// [n, up to 4w].
  let wide = MatrixOperandBuffer<S>()
  /// [n, w].
  let narrow = MatrixOperandBuffer<S>()
  /// [n, w].
  let branch = Buffer<S>()
  let tiles = AttentionTiles<S>()
  /// The precision in which the tower's products read their operands.
  let precision: ComputePrecision
  /// [n, w]: the gradient of a block's output, rounded.
  let slope = BFloat16Buffer()

  public init(_ precision: ComputePrecision = .fp32) { self.precision = precision }
}
