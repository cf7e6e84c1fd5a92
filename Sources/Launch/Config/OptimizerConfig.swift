import Model
import Settings

/// The settings of AdamW, of its learning rate and of gradient clipping.
struct OptimizerConfig: Section {
  static let groupsKey = "optimizer.groups"
  /// The peak learning rate.
  var learningRate = 5e-4
  var weightDecay = 0.2
  /// The decays of both moments; `auto`: 0.9 and 0.98 for a vision transformer, 0.9 and 0.999 for a ResNet.
  var betas: [Double]?
  /// The number added to the root of the second moment; `auto`: 1e-6 for a vision transformer, 1e-8 for a ResNet.
  var eps: Double?
  /// The number of steps over which the learning rate rises linearly to its peak.
  var warmup = 10_000
  /// The learning rate after the warm-up.
  var schedule = Schedule.Shape.cosine
  /// The largest norm of all gradients together, to which larger ones are scaled down; `none`: no clipping.
  var clipNorm: Double?
  /// The rule that chooses the parameters with weight decay.
  var decay = DecayRule.legacy
  /// Weight decay of the objective's own parameters (heads and scales), biases included; `auto`: 0.01 with the preset
  /// clip-kd, whose authors' code uses PyTorch's default, otherwise `decay` decides as for all other parameters.
  var headDecay: Double?
  /// Parameters with a learning rate and a weight decay of their own.
  var groups: [ParameterGroup] = []
  /// The factors by which the learning rate falls towards the input of each tower; `none`: it does not fall.
  var layerDecay: LayerDecay?

  mutating func fields(_ map: FieldMap) {
    map.field("learning_rate", &learningRate)
    map.field("weight_decay", &weightDecay)
    map.optional("betas", &betas, none: "auto")
    map.optional("eps", &eps, none: "auto")
    map.field("warmup", &warmup)
    map.field("schedule", &schedule)
    map.optional("clip_norm", &clipNorm, none: "none")
    map.field("decay", &decay)
    map.optional("head_decay", &headDecay, none: "auto")
    map.field("groups", &groups)
    map.optional("layer_decay", &layerDecay, none: "none")
  }

  /// Returns the settings with `auto` replaced: betas and eps depend on the kind of vision tower, as in open_clip.
  func resolved(visionTransformer: Bool, objective: ObjectivePreset) -> OptimizerConfig {
    var copy = self
    copy.betas = betas ?? (visionTransformer ? [0.9, 0.98] : [0.9, 0.999])
    copy.eps = eps ?? (visionTransformer ? 1e-6 : 1e-8)
    copy.headDecay = headDecay ?? (objective == .clipKD ? 0.01 : nil)
    return copy
  }

  var mistakes: [Mistake] {
    var found: [Mistake] = []
    found.expect("more than 0", "optimizer.learning_rate", learningRate) { $0 > 0 }
    found.expect("0 or more", "optimizer.weight_decay", weightDecay) { $0 >= 0 }
    found.expect("0 or more, or auto", "optimizer.head_decay", headDecay) { $0 >= 0 }
    found.expect("two numbers from 0 to below 1, or auto", "optimizer.betas", betas) {
      $0.count == 2 && $0.allSatisfy { 0..<1 ~= $0 }
    }
    found.expect("more than 0, or auto", "optimizer.eps", eps) { $0 > 0 }
    found.expect("0 steps or more", "optimizer.warmup", warmup) { $0 >= 0 }
    found.expect("more than 0, or none", "optimizer.clip_norm", clipNorm) { $0 > 0 }
    for (index, group) in groups.enumerated() {
      let path = "\(Self.groupsKey).\(index)"
      found.expectText("a tower or the beginning of a name", "\(path).match", group.match)
      found.expect("more than 0", "\(path).lr_scale", group.scale) { $0 > 0 }
      found.expect("0 or more", "\(path).weight_decay", group.decay) { $0 >= 0 }
      let twin = groups[..<index].firstIndex { ParameterPrefix($0.match) == ParameterPrefix(group.match) }
      if let twin { found.append(("\(path).match", "\(Self.groupsKey).\(twin) has the same; make one of the two")) }
    }
    for (tower, decay) in [("image", layerDecay?.image), ("text", layerDecay?.text)] {
      found.expect("more than 0, up to 1", "optimizer.layer_decay.\(tower)", decay) { $0 > 0 && $0 <= 1 }
    }
    return found
  }

  var options: AdamW<Float>.Options {
    .init(
      decay: weightDecay, beta1: betas?[0] ?? 0.9, beta2: betas?[1] ?? 0.98, epsilon: eps ?? 1e-6, rule: decay,
      headDecay: headDecay, groups: ParameterGroups(groups, layerDecay: layerDecay))
  }

  func schedule(steps: Int) -> Schedule { Schedule(shape: schedule, base: learningRate, warmup: warmup, total: steps) }
}

/// An exponential moving average of the weights. The short form `ema: 0.9999` gives the decay.
struct EMAConfig: Section {
  /// The factor of the average in each step.
  var decay = 0.9999
  /// True for a factor of min(decay, (1 + t) / (10 + t)) in step t.
  var warmup = true
  /// The weights that are evaluated during the run.
  var evaluate = Evaluated.both

  enum Evaluated: String, CaseIterable, FieldValue { case both, ema, raw }

  mutating func fields(_ map: FieldMap) {
    map.field("decay", &decay)
    map.field("warmup", &warmup)
    map.field("evaluate", &evaluate)
  }

  static var expectation: String { "a decay, or a section (decay, warmup, evaluate)" }
  static func shorthandKey(_ text: String) -> String? { "decay" }
  var options: WeightAverage<Float>.Options { .init(decay: decay, warmup: warmup) }

  var mistakes: [Mistake] {
    var found: [Mistake] = []
    found.expect("more than 0 and less than 1", "ema.decay", decay) { $0 > 0 && $0 < 1 }
    return found
  }

  var text: String {
    let evaluated =
      switch evaluate {
      case .both: "evaluated beside the weights"
      case .ema: "evaluated in place of the weights"
      case .raw: "not evaluated"
      }
    return "ema: average of the weights with decay \(decay)\(warmup ? " after a warm-up" : ""), \(evaluated)"
  }
}

extension RunConfig {
  var evaluatedAverages: [Bool] {
    switch ema?.evaluate {
    case .both: [false, true]
    case .ema: [true]
    case .raw, nil: [false]
    }
  }
}
