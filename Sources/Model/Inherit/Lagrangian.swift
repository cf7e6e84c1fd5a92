/// What drives the masks to the sparsity that is asked for: λ₁ max(t − e, 0) + λ₂ max(t − e, 0)² with the expected
/// sparsity e and the target t. The masks descend on it, the multipliers ascend; both begin at 10.
public struct Lagrangian: Equatable, Sendable {
  /// λ₁ and λ₂.
  public var multipliers = [10.0, 10.0]

  public init() {}

  /// The value, and the derivatives by e and by the multipliers.
  public func term(
    expected e: Double, target t: Double
  ) -> (value: Double, expected: Double, multipliers: [Double]) {
    let gap = max(t - e, 0)
    return (
      multipliers[0] * gap + multipliers[1] * gap * gap, gap > 0 ? -(multipliers[0] + 2 * multipliers[1] * gap) : 0,
      [gap, gap * gap]
    )
  }

  /// The target at a step: from `start` to `sparsity` in equal parts over `ramp` steps.
  public static func target(at step: Int, from start: Double, to sparsity: Double, ramp: Int) -> Double {
    guard ramp > 0 else { return sparsity }
    return start + (sparsity - start) * min(1, Double(step) / Double(ramp))
  }
}
