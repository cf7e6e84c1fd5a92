public import Settings
public import Tensor

/// The rule that chooses the parameters with weight decay.
public enum DecayRule: String, Codable, CaseIterable, FieldValue {
  /// open_clip's older rule, which CLIP-KD and TinyCLIP use: parameters with two axes or more decay, unless their name
  /// contains `bn`, `ln`, `bias` or `logit_scale`. Embeddings and positions decay.
  case legacy
  /// open_clip's present rule: parameters with two axes or more decay, but for positions and the class embedding.
  case current

  public func decays(_ name: String, _ shape: Shape) -> Bool {
    guard shape.rank >= 2 else { return false }
    switch self {
    case .legacy: return !["bn", "ln", "bias", "logit_scale"].contains { name.contains($0) }
    case .current: return !["positional_embedding", "class_embedding"].contains { name.hasSuffix($0) }
    }
  }
}

/// AdamW over some ranges of a parameter arena, with the moments of those ranges.
public final class AdamW<S: Scalar> {
  public struct Options: Sendable, Equatable {
    public var decay = 0.2
    public var beta1 = 0.9
    public var beta2 = 0.98
    public var epsilon = 1e-6
    public var rule = DecayRule.legacy
    /// The decay of all of the objective's own parameters, whatever the rule says of them; nil: as the rule has it.
    public var headDecay: Double?

    public init(
      decay: Double = 0.2, beta1: Double = 0.9, beta2: Double = 0.98, epsilon: Double = 1e-6,
      rule: DecayRule = .legacy, headDecay: Double? = nil
    ) {
      self.decay = decay
      self.beta1 = beta1
      self.beta2 = beta2
      self.epsilon = epsilon
      self.rule = rule
      self.headDecay = headDecay
    }

    /// What a parameter decays by.
    func decay(of name: String, _ shape: Shape) -> Double {
      if let headDecay, NamedSlice.Owner(of: name) == .objective { return headDecay }
      return rule.decays(name, shape) ? decay : 0
    }
  }

  public let options: Options
  /// What this optimizer updates, in scalars of the arena, by rising place. Moments and gradients lie in this order
  /// too, end to end.
  public let ranges: [Range<Int>]
  /// Steps taken.
  public var step = 0
  public let firstMoment: Tensor<S>
  public let secondMoment: Tensor<S>
  private let runs: [Run]
  /// Where in the moments what is frozen lies.
  private let frozenRanges: [Range<Int>]

  /// Scalars that follow one another both in the arena and in the moments, and decay alike; nil: they do not move.
  private struct Run {
    var range: Range<Int>
    /// Where they begin in the moments.
    var offset: Int
    var decay: Double?

    var own: Range<Int> { offset..<offset + range.count }
  }

  /// - Parameters:
  ///   - ranges: what of the arena is updated; nil: all.
  ///   - frozen: what of it is left as it is, and its moments 0 or what a checkpoint has of them.
  public init(
    _ store: ParameterStore<S>, _ options: Options, ranges: [Range<Int>]? = nil, frozen: Frozen = .none
  ) {
    let ranges = ranges ?? [0..<store.count]
    precondition(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound }, "ranges rise")
    self.options = options
    self.ranges = ranges
    let count = ranges.reduce(0) { $0 + $1.count }
    firstMoment = Tensor(Shape(count))
    secondMoment = Tensor(Shape(count))
    var runs: [Run] = []
    var offset = 0
    for range in ranges {
      runs += Self.runs(store, options, frozen, within: range, at: offset)
      offset += range.count
    }
    self.runs = runs.filter { $0.decay != nil }
    frozenRanges = runs.filter { $0.decay == nil }.map(\.own)
  }

  /// Consecutive parameters of equal decay, as few runs as there can be.
  private static func runs(
    _ store: ParameterStore<S>, _ options: Options, _ frozen: Frozen, within range: Range<Int>, at offset: Int
  ) -> [Run] {
    var runs: [Run] = []
    for entry in store.entries {
      let part = entry.range.clamped(to: range)
      guard !part.isEmpty else { continue }
      let decay = frozen.contains(entry.name) ? nil : options.decay(of: entry.name, entry.shape)
      if let last = runs.last, last.decay == decay {
        runs[runs.count - 1].range = last.range.lowerBound..<part.upperBound
      } else {
        runs.append(Run(range: part, offset: offset + part.lowerBound - range.lowerBound, decay: decay))
      }
    }
    return runs
  }

  /// Makes the gradient of what is frozen 0, so that it has no part in the norm.
  public func clearFrozen(_ gradient: Tensor<S>) {
    precondition(gradient.count == firstMoment.count, "a gradient of \(gradient.shape) for \(ranges)")
    for place in frozenRanges { fill(gradient.slice(place), 0) }
  }

  /// One step: `parameters` is the whole arena, `gradient` that of `ranges` alone.
  public func update(_ parameters: Tensor<S>, gradient: Tensor<S>, learningRate: Double, gradientScale: Double = 1) {
    precondition(gradient.count == firstMoment.count, "a gradient of \(gradient.shape) for \(ranges)")
    step += 1
    for run in runs {
      guard let decay = run.decay else { continue }
      adamW(
        parameters.slice(run.range), gradient: gradient.slice(run.own), first: firstMoment.slice(run.own),
        second: secondMoment.slice(run.own),
        AdamWStep(
          learningRate: learningRate, decay: decay, beta1: options.beta1, beta2: options.beta2,
          epsilon: options.epsilon, step: step, gradientScale: gradientScale))
    }
  }
}
