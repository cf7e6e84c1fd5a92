public import Settings
public import Tensor

/// A rule that chooses the parameters with weight decay.
public enum DecayRule: String, Codable, CaseIterable, FieldValue {
  /// open_clip's older rule, which CLIP-KD and TinyCLIP use: parameters with two axes or more decay, unless their name
  /// contains `bn`, `ln`, `bias` or `logit_scale`. Token and positional embeddings decay.
  case legacy
  /// open_clip's present rule: parameters with two axes or more decay, except positional and class embeddings.
  case current

  /// Returns true if the parameter of this open_clip key and shape decays.
  public func decays(_ name: String, _ shape: Shape) -> Bool {
    guard shape.rank >= 2 else { return false }
    switch self {
    case .legacy: return !["bn", "ln", "bias", "logit_scale"].contains { name.contains($0) }
    case .current: return !["positional_embedding", "class_embedding"].contains { name.hasSuffix($0) }
    }
  }
}

/// AdamW over ranges of a parameter arena, with the moments of those ranges only.
public final class AdamW<S: Scalar> {
  /// The settings of an update: decay λ, β₁, β₂ and ε of AdamW, and what differs between parameters.
  public struct Options: Sendable, Equatable {
    public var decay: Double
    public var beta1: Double
    public var beta2: Double
    public var epsilon: Double
    public var rule: DecayRule
    /// The decay of all of the objective's own parameters; nil: the rule applies to them too.
    public var headDecay: Double?
    /// The factors of the learning rate, and the decays of groups.
    public var groups: ParameterGroups

    public init(
      decay: Double = 0.2, beta1: Double = 0.9, beta2: Double = 0.98, epsilon: Double = 1e-6,
      rule: DecayRule = .legacy, headDecay: Double? = nil, groups: ParameterGroups = ParameterGroups()
    ) {
      (self.decay, self.beta1, self.beta2, self.epsilon) = (decay, beta1, beta2, epsilon)
      (self.rule, self.headDecay, self.groups) = (rule, headDecay, groups)
    }

    /// Returns the decay of a parameter. That of its group changes how much it decays, but not whether it does.
    func decay(of name: String, _ shape: Shape, in group: ParameterGroup? = nil) -> Double {
      if let headDecay, NamedSlice.Owner(of: name) == .objective { return group?.decay ?? headDecay }
      return rule.decays(name, shape) ? group?.decay ?? decay : 0
    }
  }

  public let options: Options
  /// The ranges of the arena that are updated here, in ascending order: that of moments and gradients, end to end.
  public let ranges: [Range<Int>]
  /// The number of steps taken.
  public var step = 0
  public let firstMoment: Tensor<S>
  public let secondMoment: Tensor<S>
  private let runs: [Run]

  /// The numbers of an update that are not the same for all parameters.
  private struct Rates: Equatable {
    /// The factor of the learning rate.
    let scale: Double
    let decay: Double
  }

  /// Consecutive scalars of the arena and of the moments that have the same rates; nil for frozen parameters.
  private struct Run {
    /// The range in the arena.
    var range: Range<Int>
    /// The first scalar in the moments.
    let offset: Int
    let rates: Rates?

    /// The range in the moments.
    var own: Range<Int> { offset..<offset + range.count }
  }

  /// Creates the optimizer of these ranges of the arena (nil: all of it). Frozen parameters are never updated; their
  /// moments stay 0, or as a checkpoint has them.
  public init(_ store: ParameterStore<S>, _ options: Options, ranges: [Range<Int>]? = nil, frozen: Frozen = .none) {
    let ranges = ranges ?? [0..<store.count]
    precondition(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound }, "ranges ascend")
    (self.options, self.ranges) = (options, ranges)
    let all = zip(store.entries, options.groups.choices(for: store.entries)).map { entry, choice -> Rates? in
      let group = choice.group.map { options.groups.groups[$0] }
      let decay = options.decay(of: entry.name, entry.shape, in: group)
      return frozen.contains(entry.name) ? nil : Rates(scale: choice.scale, decay: decay)
    }
    // The fewest runs that cover each range.
    var (runs, count): ([Run], Int) = ([], 0)
    for range in ranges {
      let start = runs.count
      for (entry, rates) in zip(store.entries, all) {
        let part = entry.range.clamped(to: range)
        guard !part.isEmpty else { continue }
        if runs.count > start, runs[runs.count - 1].rates == rates {
          runs[runs.count - 1].range = runs[runs.count - 1].range.lowerBound..<part.upperBound
        } else {
          runs.append(Run(range: part, offset: count + part.lowerBound - range.lowerBound, rates: rates))
        }
      }
      count += range.count
    }
    self.runs = runs
    (firstMoment, secondMoment) = (Tensor(Shape(count)), Tensor(Shape(count)))
  }

  /// Sets the gradient of frozen parameters to 0, so that the norm does not include it.
  public func clearFrozen(_ gradient: Tensor<S>) {
    precondition(gradient.count == firstMoment.count, "a gradient of \(gradient.shape) for \(ranges)")
    for run in runs where run.rates == nil { fill(gradient.slice(run.own), 0) }
  }

  /// Takes one step. `parameters` is the whole arena; `gradient` has the scalars of `ranges` only.
  public func update(_ parameters: Tensor<S>, gradient: Tensor<S>, learningRate: Double, gradientScale: Double = 1) {
    precondition(gradient.count == firstMoment.count, "a gradient of \(gradient.shape) for \(ranges)")
    step += 1
    for run in runs {
      guard let rates = run.rates else { continue }
      let numbers = AdamWStep(
        learningRate: learningRate * rates.scale, decay: rates.decay, beta1: options.beta1, beta2: options.beta2,
        epsilon: options.epsilon, step: step, gradientScale: gradientScale)
      adamW(
        parameters.slice(run.range), gradient: gradient.slice(run.own), first: firstMoment.slice(run.own),
        second: secondMoment.slice(run.own), numbers)
    }
  }
}
