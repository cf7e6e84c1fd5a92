public import Tensor

/// Scratch that the blocks of a tower share, for nothing in it outlives a block.
public final class Workspace<S: Scalar> {
  /// [n, up to 4w].
  let wide = Buffer<S>()
  /// [n, w].
  let narrow = Buffer<S>()
  /// [n, w].
  let branch = Buffer<S>()
  /// Attention scores.
  let tiles = Buffer<S>()
  /// How the tower's products read their operands, and those that are rounded for one product or two.
  let precision: Precision
  let rounding = RoundedBuffer()
  let roundingInput = RoundedBuffer()

  public init(_ precision: Precision = .fp32) { self.precision = precision }
}
