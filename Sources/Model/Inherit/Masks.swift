internal import Tensor

/// The masks' parameters: log α of every hidden unit, head and MLP unit, in Double whatever the model is held in, and
/// the same on all ranks.
public struct Masks: Equatable, Sendable {
  public let layout: MaskLayout
  public var logAlpha: [Double]

  /// Masks that are all but certain to be 1.
  public init(_ layout: MaskLayout) {
    self.layout = layout
    logAlpha = Array(repeating: HardConcrete.initial, count: layout.count)
  }

  /// Masks drawn for one training step, and the derivative of each by its log α.
  public struct Sample: Sendable {
    public let values: [Double]
    public let slopes: [Double]
  }

  /// Draws all masks: a function of (seed, step), so that any number of ranks has the same.
  public func sample(seed: UInt64, step: Int) -> Sample {
    var values = [Double](repeating: 0, count: layout.count)
    var slopes = values
    for (name, range) in layout.vectors {
      var random = KeyedRandom(seed: seed, purpose: "mask \(name)", UInt64(step))
      for index in range {
        let u = random.uniform(HardConcrete.margin, 1 - HardConcrete.margin)
        (values[index], slopes[index]) = HardConcrete.sample(logAlpha[index], u)
      }
    }
    return Sample(values: values, slopes: slopes)
  }

  /// The masks without chance: of each vector the k smallest are 0, where k is how many are expected to be, rounded;
  /// the others are soft. The largest is always kept, so that no tensor is ever empty.
  public var expected: [Double] {
    var values = logAlpha.map(HardConcrete.expected)
    for (_, range) in layout.vectors {
      let alive = range.reduce(0) { $0 + HardConcrete.survival(logAlpha[$1]).value }
      let dead = min(Int((Double(range.count) - alive).rounded(.toNearestOrEven)), range.count - 1)
      for index in range.sorted(by: { (logAlpha[$0], $0) < (logAlpha[$1], $1) }).prefix(dead) { values[index] = 0 }
    }
    return values
  }

  /// The expected sparsity of all towers together, 1 − expected / prunable parameters, and its derivative by every log
  /// α.
  public var sparsity: (value: Double, slopes: [Double]) {
    let survivals = logAlpha.map(HardConcrete.survival)
    let prunable = layout.towers.reduce(0) { $0 + $1.prunable }
    var slopes = [Double](repeating: 0, count: layout.count)
    let probabilities = survivals.map(\.value)
    let left = layout.towers.reduce(0) { $0 + $1.expected(probabilities, adding: -1 / prunable, to: &slopes) }
    for index in slopes.indices { slopes[index] *= survivals[index].slope }
    return (1 - left / prunable, slopes)
  }

  /// The sparsity of the model that masks like these cut.
  public func sparsity(of values: [Double]) -> Double {
    let prunable = layout.towers.reduce(0) { $0 + $1.prunable }
    var unused = [Double](repeating: 0, count: layout.count)
    let present = values.map { $0 == 0 ? 0.0 : 1.0 }
    return 1 - layout.towers.reduce(0) { $0 + $1.expected(present, adding: 0, to: &unused) } / prunable
  }

  /// Keeps every log α within its bounds, as after each step.
  mutating func clamp() {
    let bounds = HardConcrete.bounds
    for index in logAlpha.indices { logAlpha[index] = min(max(logAlpha[index], bounds.lowerBound), bounds.upperBound) }
  }
}
