internal import RealModule
internal import Tensor

/// The parameters of the masks: log α of every hidden unit, head and MLP unit, in Double and the same on all ranks.
public struct Masks: Equatable, Sendable {
  public let layout: MaskLayout
  /// log α of every mask, in the layout's order.
  public var logAlpha: [Double]

  /// Creates masks with these log α, or masks that are 1 almost certainly.
  public init(_ layout: MaskLayout, logAlpha: [Double]? = nil) {
    self.layout = layout
    self.logAlpha = logAlpha ?? Array(repeating: HardConcrete.initial, count: layout.count)
  }

  /// Draws all masks as a function of (seed, step), with the derivative of each by its log α.
  func sample(seed: UInt64, step: Int) -> (values: [Double], slopes: [Double]) {
    var values = [Double](repeating: 0, count: layout.count)
    var slopes = values
    for (name, range) in layout.vectors {
      var random = KeyedRandom(seed: seed, purpose: "mask \(name)", UInt64(step))
      for index in range {
        let u = random.uniform(from: HardConcrete.margin, to: 1 - HardConcrete.margin)
        (values[index], slopes[index]) = HardConcrete.sample(logAlpha: logAlpha[index], uniform: u)
      }
    }
    return (values, slopes)
  }

  /// The deterministic masks: in each vector the k smallest are 0, where k is the expected number of zeros, rounded,
  /// and the others have their soft values. The largest is always kept, so that no tensor becomes empty.
  public var expected: [Double] {
    var values = logAlpha.map(HardConcrete.expected)
    for (_, range) in layout.vectors {
      let alive = range.reduce(0) { $0 + HardConcrete.survival(logAlpha[$1]).value }
      let dead = min(Int((Double(range.count) - alive).rounded(.toNearestOrEven)), range.count - 1)
      for index in range.sorted(by: { (logAlpha[$0], $0) < (logAlpha[$1], $1) }).prefix(dead) { values[index] = 0 }
    }
    return values
  }

  /// The expected sparsity over all towers, 1 − expected / prunable parameters, and its derivative by every log α.
  public var sparsity: (value: Double, slopes: [Double]) {
    let (survivals, prunable) = (logAlpha.map(HardConcrete.survival), layout.prunable)
    var slopes = [Double](repeating: 0, count: layout.count)
    let left = layout.expected(survivals.map(\.value), adding: -1 / prunable, to: &slopes)
    for index in slopes.indices { slopes[index] *= survivals[index].slope }
    return (1 - left / prunable, slopes)
  }

  /// Returns the sparsity of the model after everything whose mask in `values` is 0 is removed.
  public func sparsity(of values: [Double]) -> Double {
    var unused = [Double](repeating: 0, count: layout.count)
    return 1 - layout.expected(values.map { $0 == 0 ? 0.0 : 1.0 }, adding: 0, to: &unused) / layout.prunable
  }

  mutating func clamp() {
    let bounds = HardConcrete.bounds
    for index in logAlpha.indices { logAlpha[index] = min(max(logAlpha[index], bounds.lowerBound), bounds.upperBound) }
  }
}

/// The hard-concrete distribution of a mask (Louizos, Welling, Kingma: Learning Sparse Neural Networks through L0
/// Regularization) with TinyCLIP's constants, in [0, 1] with positive probability at both ends; its parameter is log α.
enum HardConcrete {
  private static let temperature = 2.0 / 3
  /// The sigmoid is stretched to this interval and then clipped to [0, 1].
  private static let (low, high) = (-0.1, 1.1)
  /// The distance that uniform numbers and probabilities keep from 0 and 1.
  static let margin = 1e-6
  /// The initial log α, and the bounds to which it is clamped after every step.
  static let initial = 10.0
  static let bounds = Double.log(0.01)...Double.log(100)

  /// Returns the mask z for a number u that is uniform in (0, 1), and dz/d(log α), which is 0 where z is clipped.
  static func sample(logAlpha: Double, uniform u: Double) -> (value: Double, slope: Double) {
    let s = sigmoid((Double.log(u) - Double.log(1 - u) + logAlpha) / temperature)
    let stretched = low + (high - low) * s
    guard stretched > 0 else { return (0, 0) }
    guard stretched < 1 else { return (1, 0) }
    return (stretched, (high - low) * s * (1 - s) / temperature)
  }

  /// Returns P(z > 0) and its derivative by log α.
  static func survival(_ logAlpha: Double) -> (value: Double, slope: Double) {
    let p = sigmoid(logAlpha - temperature * Double.log(-low / high))
    guard p > margin else { return (margin, 0) }
    guard p < 1 - margin else { return (1 - margin, 0) }
    return (p, p * (1 - p))
  }

  static func expected(_ logAlpha: Double) -> Double { sigmoid(0.8 * logAlpha / temperature) }
  private static func sigmoid(_ x: Double) -> Double { 1 / (1 + Double.exp(-x)) }
}
