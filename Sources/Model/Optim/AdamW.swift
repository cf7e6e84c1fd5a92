public import Tensor

/// Which parameters are decayed.
public enum DecayRule: String, Sendable, Codable, CaseIterable {
  /// open_clip's older rule, CLIP-KD's and TinyCLIP's: not those with fewer than two axes, nor those whose name has
  /// `bn`, `ln`, `bias` or `logit_scale` in it. So embeddings and positions decay.
  case legacy
  /// open_clip's present rule: not those with fewer than two axes, nor positions and the class embedding.
  case current

  public func decays(_ name: String, _ shape: Shape) -> Bool {
    guard shape.rank >= 2 else { return false }
    switch self {
    case .legacy: return !["bn", "ln", "bias", "logit_scale"].contains { name.contains($0) }
    case .current: return !["positional_embedding", "class_embedding"].contains { name.hasSuffix($0) }
    }
  }
}

/// AdamW over one range of a parameter arena, with the moments of that range.
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
      if let headDecay, name.hasPrefix(Objective<S>.prefix) { return headDecay }
      return rule.decays(name, shape) ? decay : 0
    }
  }

  public let options: Options
  /// What this optimizer updates, in scalars of the arena.
  public let range: Range<Int>
  /// Steps taken.
  public var step = 0
  public let firstMoment: Tensor<S>
  public let secondMoment: Tensor<S>
  private let runs: [(range: Range<Int>, decay: Double)]

  public init(_ store: ParameterStore<S>, _ options: Options, range: Range<Int>? = nil) {
    let range = range ?? 0..<store.count
    self.options = options
    self.range = range
    firstMoment = Tensor(Shape(range.count))
    secondMoment = Tensor(Shape(range.count))
    runs = Self.runs(store, options, within: range)
  }

  /// Consecutive parameters of equal decay, as few runs as there can be.
  private static func runs(
    _ store: ParameterStore<S>, _ options: Options, within range: Range<Int>
  ) -> [(range: Range<Int>, decay: Double)] {
    var runs: [(range: Range<Int>, decay: Double)] = []
    for entry in store.entries {
      let part = entry.range.clamped(to: range)
      guard !part.isEmpty else { continue }
      let decay = options.decay(of: entry.name, entry.shape)
      if let last = runs.last, last.decay == decay {
        runs[runs.count - 1].range = last.range.lowerBound..<part.upperBound
      } else {
        runs.append((part, decay))
      }
    }
    return runs
  }

  /// One step: `parameters` is the whole arena, `gradient` that of `range` alone.
  public func update(_ parameters: Tensor<S>, gradient: Tensor<S>, rate: Double, gradientScale: Double = 1) {
    precondition(gradient.count == range.count, "a gradient of \(gradient.shape) for \(range)")
    step += 1
    for run in runs {
      let own = run.range.lowerBound - range.lowerBound..<run.range.upperBound - range.lowerBound
      adamW(
        parameters.slice(run.range), gradient: gradient.slice(own), first: firstMoment.slice(own),
        second: secondMoment.slice(own), step: step, rate: rate, decay: run.decay, beta1: options.beta1,
        beta2: options.beta2, epsilon: options.epsilon, gradientScale: gradientScale)
    }
  }
}
