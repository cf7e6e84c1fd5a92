public import Tensor

/// Scratch that the blocks of a tower share, for nothing in it outlives a block.
public final class Workspace<S: Scalar> {
  /// [n, up to 4w].
  let wide = OperandBuffer<S>()
  /// [n, w].
  let narrow = OperandBuffer<S>()
  /// [n, w].
  let branch = Buffer<S>()
  let tiles = AttentionTiles<S>()
  /// How the tower's products read their operands.
  let precision: Precision
  /// [n, w]: the gradient of a block's output, rounded.
  let slope = RoundedBuffer()

  public init(_ precision: Precision = .fp32) { self.precision = precision }
}
