public import Tensor

/// What the masks of one step found, before their update.
public struct MaskReport: Equatable, Sendable {
  /// The sparsity that is expected of the masks, and the one that they are driven to.
  public var expected: Double
  public var target: Double
  /// λ₁ and λ₂.
  public var multipliers: [Double]
  /// What the loss has on top of the objective.
  public var term: Double
}

/// Learns the masks of a model together with its weights: draws them for every step, takes their gradients, and drives
/// them to the sparsity that is asked for.
///
/// All of it is the same on all ranks, for the draws are a function of (seed, step) and the gradients are summed over
/// the ranks before they are used.
public final class MaskTraining<S: Scalar> {
  public struct Options: Equatable, Sendable {
    /// The share of the prunable parameters that is to go, counted from the model before any pruning; and the share
    /// from which the target rises to it, in equal parts over `ramp` steps.
    public var sparsity: Double
    public var start: Double
    public var ramp: Int
    /// AdamW's rate for log α, and with the other sign for the multipliers.
    public var rate: Double
    public var seed: UInt64

    public init(sparsity: Double, start: Double, ramp: Int, rate: Double, seed: UInt64) {
      self.sparsity = sparsity
      self.start = start
      self.ramp = ramp
      self.rate = rate
      self.seed = seed
    }
  }

  public let masked: MaskedModel<S>
  public let options: Options
  /// Steps done.
  public var step = 0
  /// log α, then λ₁ and λ₂; behind it AdamW's moments of both.
  private let values: Tensor<Double>
  private let moments: (first: Tensor<Double>, second: Tensor<Double>)
  private var sample: Masks.Sample?
  private let layout: MaskLayout

  public init(_ model: CLIP<S>, _ layout: MaskLayout, _ options: Options) {
    self.layout = layout
    self.options = options
    masked = MaskedModel(model, layout)
    values = Tensor(Shape(layout.count + 2), Masks(layout).logAlpha + Lagrangian().multipliers)
    moments = (Tensor(values.shape), Tensor(values.shape))
  }

  public var masks: Masks {
    var masks = Masks(layout)
    masks.logAlpha = values.slice(0..<layout.count).array
    return masks
  }

  private var lagrangian: Lagrangian {
    var lagrangian = Lagrangian()
    lagrangian.multipliers = values.slice(layout.count..<values.count).array
    return lagrangian
  }

  /// Puts this step's draw of the masks on the model.
  public func wear() {
    let drawn = masks.sample(seed: options.seed, step: step)
    masked.wear(drawn.values)
    sample = drawn
  }

  /// Takes the masks off after backward; returns their gradients, to be summed over the ranks.
  public func takeOff() -> [Double] { masked.takeOff() }

  /// Runs `body` on the model as it would be after the cut.
  public func withExpected<R>(_ body: () throws -> R) rethrows -> R {
    masked.wear(masks.expected)
    defer { masked.restore() }
    return try body()
  }

  /// Moves masks and multipliers, given the sum of the masks' gradients over the ranks.
  public func update(_ gradient: [Double]) -> MaskReport {
    guard let sample else { preconditionFailure("an update before a draw") }
    let sparsity = masks.sparsity
    let target = Lagrangian.target(at: step, from: options.start, to: options.sparsity, ramp: options.ramp)
    let lagrangian = lagrangian
    let term = lagrangian.term(expected: sparsity.value, target: target)
    let slopes = Tensor<Double>(values.shape)
    for index in 0..<layout.count {
      slopes[index] = gradient[index] * sample.slopes[index] + term.expected * sparsity.slopes[index]
    }
    for (index, slope) in term.multipliers.enumerated() { slopes[layout.count + index] = slope }
    step += 1
    move(0..<layout.count, slopes, rate: options.rate)
    move(layout.count..<values.count, slopes, rate: -options.rate)
    var moved = masks
    moved.clamp()
    for (index, value) in moved.logAlpha.enumerated() { values[index] = value }
    return MaskReport(
      expected: sparsity.value, target: target, multipliers: lagrangian.multipliers, term: term.value)
  }

  /// PyTorch's default AdamW without decay, as in the reference.
  private func move(_ range: Range<Int>, _ slopes: Tensor<Double>, rate: Double) {
    adamW(
      values.slice(range), gradient: slopes.slice(range), first: moments.first.slice(range),
      second: moments.second.slice(range), step: step, rate: rate, decay: 0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8,
      gradientScale: 1)
  }

  // MARK: State

  /// What every name in `state` begins with.
  public static var prefix: String { "prune." }

  /// Everything that a resumed run must have, by name.
  public var state: [(name: String, values: [Double])] {
    [("values", values.array), ("moment1", moments.first.array), ("moment2", moments.second.array)].flatMap {
      kind, list in
      (layout.vectors + [("multipliers", layout.count..<values.count)]).map {
        ("\(Self.prefix)\($0.name).\(kind)", Array(list[$0.range]))
      }
    }
  }

  /// Takes the state back; returns what is missing, of another length, or of masks that there are not.
  public func restore(_ stored: [String: [Double]], step: Int) -> [String] {
    self.step = step
    let known = Set(state.map(\.name))
    var problems = stored.keys.filter { $0.hasPrefix(Self.prefix) && !known.contains($0) }.sorted()
      .map { "\($0) is of no mask of this run" }
    for (kind, tensor) in [("values", values), ("moment1", moments.first), ("moment2", moments.second)] {
      for (name, range) in layout.vectors + [("multipliers", layout.count..<values.count)] {
        let key = "\(Self.prefix)\(name).\(kind)"
        guard let found = stored[key], found.count == range.count else {
          problems.append("\(key) has \(stored[key].map { "\($0.count)" } ?? "no") numbers, expected \(range.count)")
          continue
        }
        for (at, index) in range.enumerated() { tensor[index] = found[at] }
      }
    }
    return problems
  }
}
