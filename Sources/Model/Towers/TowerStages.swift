/// What a tower's forward reads one after another, and its backward in mirrored order: what comes before its blocks,
/// each block, and what comes after.
public final class TowerStages {
  /// The places of each stage's parameters in every arena of the model's layout.
  public let extents: [[Range<Int>]]
  /// Called before each stage of a forward, with its number, before any of its parameters is read. Once the next stage
  /// is announced, or the forward has returned, they are not read any more.
  public var willRun: ((_ stage: Int) -> Void)?
  /// Called in each backward, the last stage first, once nothing more is added to the gradients of a stage.
  public var gradientsReady: ((_ stage: Int) -> Void)?

  init(_ extents: [[Range<Int>]]) { self.extents = extents }
}
