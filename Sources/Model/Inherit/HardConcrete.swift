internal import RealModule

/// The hard-concrete distribution of a mask (Louizos, Welling, Kingma: Learning Sparse Neural Networks through L0
/// Regularization), with TinyCLIP's constants: between 0 and 1, with mass on both ends; its one parameter is log α.
enum HardConcrete {
  static let temperature = 2.0 / 3
  /// The sigmoid is stretched to this and then clipped to 0 … 1.
  static let low = -0.1
  static let high = 1.1
  /// Uniform numbers and probabilities keep so far from 0 and 1.
  static let margin = 1e-6
  /// Where log α begins, and between which bounds it is kept after every step.
  static let initial = 10.0
  static let bounds = Double.log(0.01)...Double.log(100)

  /// The mask z for a uniform number u, and dz/d(log α), which is 0 where z is clipped.
  static func sample(_ logAlpha: Double, _ u: Double) -> (value: Double, slope: Double) {
    let s = sigmoid((Double.log(u) - Double.log(1 - u) + logAlpha) / temperature)
    let stretched = low + (high - low) * s
    guard stretched > 0 else { return (0, 0) }
    guard stretched < 1 else { return (1, 0) }
    return (stretched, (high - low) * s * (1 - s) / temperature)
  }

  /// P(z > 0) and its derivative.
  static func survival(_ logAlpha: Double) -> (value: Double, slope: Double) {
    let p = sigmoid(logAlpha - temperature * Double.log(-low / high))
    guard p > margin else { return (margin, 0) }
    guard p < 1 - margin else { return (1 - margin, 0) }
    return (p, p * (1 - p))
  }

  /// The mask without chance.
  static func expected(_ logAlpha: Double) -> Double { sigmoid(0.8 * logAlpha / temperature) }

  private static func sigmoid(_ x: Double) -> Double { 1 / (1 + Double.exp(-x)) }
}
