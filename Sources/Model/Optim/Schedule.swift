internal import Foundation

/// The learning rate of each step, counted from 0.
public struct Schedule: Sendable, Equatable {
  public enum Shape: String, Sendable, Codable, CaseIterable {
    /// After warm-up, half a cosine from the base rate to 0 at the last step.
    case cosine
    /// After warm-up, the base rate.
    case constant
  }

  public var shape: Shape
  public var base: Double
  /// Steps over which the rate rises: base · (step + 1) / warmup.
  public var warmup: Int
  public var total: Int

  public init(shape: Shape = .cosine, base: Double, warmup: Int, total: Int) {
    self.shape = shape
    self.base = base
    self.warmup = warmup
    self.total = total
  }

  public func rate(at step: Int) -> Double {
    if step < warmup { return base * Double(step + 1) / Double(warmup) }
    guard shape == .cosine else { return base }
    guard step < total else { return 0 }
    return base / 2 * (1 + cos(Double.pi * Double(step - warmup) / Double(total - warmup)))
  }
}

/// The factor that brings a gradient of this norm down to `limit`, as PyTorch's clip_grad_norm_: limit / (norm + 1e-6),
/// never above 1; 1 where there is no limit.
public func clipFactor(norm: Double, limit: Double?) -> Double {
  guard let limit else { return 1 }
  return min(1, limit / (norm + 1e-6))
}
