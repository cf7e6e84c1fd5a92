public import Settings

/// What the backward of a tower makes again in place of keeping it from forward on: memory for time.
///
/// The same kernels see the same numbers twice, so features and gradients are the same to the bit.
public enum Recompute: String, CaseIterable, Codable, FieldValue {
  /// Nothing: all that backward needs is kept.
  case none
  /// What costs no product: in transformers the norms' and the activation's outputs, in a ResNet those of a block's
  /// inner norms and pools.
  case cheap
  /// All of a block but its output: each block but the last runs once more.
  case blocks
}
