/// One parameter's place in every arena of a layout (values, gradients, moments, averages) on every rank; checkpoints
/// store parameters by it.
public struct NamedSlice: Hashable, Sendable {
  /// The part of a run that a parameter belongs to.
  public enum Owner: Sendable {
    /// The model: exported with it.
    case model
    /// The objective (heads, scales of terms): trained and kept in checkpoints, never exported.
    case objective
    /// The beginning of the objective's names, in memory and in checkpoints.
    public static let objectivePrefix = "objective."

    /// The owner of the parameter of this name.
    public init(of name: String) { self = name.hasPrefix(Self.objectivePrefix) ? .objective : .model }
  }

  /// The key in open_clip's state dict.
  public let name: String
  public let shape: Shape
  /// The first scalar's index in every arena of the layout.
  public let offset: Int

  public init(name: String, shape: Shape, offset: Int) { (self.name, self.shape, self.offset) = (name, shape, offset) }
  /// The part of a run to which the parameter belongs, by its name.
  public var owner: Owner { Owner(of: name) }
  /// The parameter's scalars in every arena of the layout.
  public var range: Range<Int> { offset..<offset + shape.count }
  /// The range with the gap behind it, up to the next multiple of 16 scalars (64 bytes).
  public var extent: Range<Int> { offset..<offset + (shape.count + 15) / 16 * 16 }
}
