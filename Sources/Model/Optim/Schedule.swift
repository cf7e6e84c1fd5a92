internal import Foundation
public import Settings

/// The learning rate of each step, counted from 0.
public struct Schedule: Sendable, Equatable {
  /// The course of the learning rate after warm-up.
  public enum Shape: String, Codable, CaseIterable, FieldValue {
    /// After warm-up, half a cosine from the peak learning rate to 0 at the last step.
    case cosine
    /// After warm-up, the peak learning rate.
    case constant
  }

  public var shape: Shape
  /// The peak learning rate.
  public var base: Double
  /// The number of steps over which the learning rate rises to its peak as base · (step + 1) / warmup.
  public var warmup: Int
  /// The number of steps of the run.
  public var total: Int

  public init(shape: Shape = .cosine, base: Double, warmup: Int, total: Int) {
    (self.shape, self.base, self.warmup, self.total) = (shape, base, warmup, total)
  }

  /// Returns base · (step + 1) / warmup in warm-up, and after it what the shape says; 0 after the last step of a
  /// cosine.
  public func learningRate(at step: Int) -> Double {
    if step < warmup { return base * Double(step + 1) / Double(warmup) }
    guard shape == .cosine else { return base }
    guard step < total else { return 0 }
    return base / 2 * (1 + cos(Double.pi * Double(step - warmup) / Double(total - warmup)))
  }
}

/// Returns the factor that brings a gradient of this norm down to `limit`, as PyTorch's clip_grad_norm_ does:
/// limit / (norm + 1e-6), never above 1; 1 without a limit.
public func clipFactor(norm: Double, limit: Double?) -> Double {
  guard let limit else { return 1 }
  return min(1, limit / (norm + 1e-6))
}
