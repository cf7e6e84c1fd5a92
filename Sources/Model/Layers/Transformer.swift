public import Tensor

/// The sizes of a transformer, and how its weights start.
struct TransformerConfig<S: Scalar> {
  struct InitialValues {
    var inProjection: Initial
    var outProjection: Initial
    var expand: Initial
    var contract: Initial
  }

  var width: Int
  /// Heads and hidden units of each block.
  var blocks: BlockSizes
  var survivors: Survivors<S>
  var causal: Bool
  var activation: Activation
  var initial: InitialValues
  var precision: Precision
  var recompute = Recompute.none
}

/// A stack of residual attention blocks.
public final class Transformer<S: Scalar> {
  public let blocks: [ResidualAttentionBlock<S>]
  /// The place of each block's parameters.
  let extents: [Range<Int>]
  private let saved: [ResidualAttentionBlock<S>.Saved]
  private let passing = ResidualAttentionBlock<S>.Saved()
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
    saved = blocks.map { [passing] _ in ResidualAttentionBlock<S>.Saved(config.recompute, passing: passing) }
  }

  /// x [n, w] → [n, w]. With `keeping`, what backward needs is kept until the next forward, x included: its memory
  /// must stay as it is. `willRun` is told of each block before it reads its parameters; `observe` sees each block's
  /// output.
  func forward(
    _ x: Tensor<S>, _ sequences: Sequences, keeping: Bool, willRun: (Int) -> Void = { _ in },
    observe: ((Int, Tensor<S>) -> Void)? = nil
  ) -> Tensor<S> {
    var x = x
    for (index, block) in blocks.enumerated() {
      willRun(index)
      x = block.forward(x, sequences, saved: keeping ? saved[index] : passing, workspace: workspace)
      observe?(index, x)
    }
    return x
  }

  /// dx holds the gradient of the output and, on return, that of the input x. `ready` is told of each block whose
  /// parameters' gradients are complete.
  func backward(_ dx: Tensor<S>, x: Tensor<S>, _ sequences: Sequences, ready: (Int) -> Void = { _ in }) {
    for index in blocks.indices.reversed() {
      let input = index == 0 ? x : saved[index - 1].output.tensor(x.shape)
      // Of the last block all is still there.
      if saved[index].recompute == .blocks, index < blocks.count - 1 {
        blocks[index].restore(input, sequences, saved: saved[index], workspace: workspace)
      }
      blocks[index].backward(dx, x: input, sequences, saved: saved[index], workspace: workspace)
      ready(index)
    }
  }
}
