import Model
import Settings

/// AdamW, its schedule and the clipping of gradients.
struct OptimizerConfig: Section {
  /// Peak learning rate.
  var rate = 5e-4
  var weightDecay = 0.2
  /// Decay of the first and second moment; `auto`: 0.9 and 0.98 for a vision transformer, 0.9 and 0.999 for a ResNet.
  var betas: [Double]?
  /// Added to the root of the second moment; `auto`: 1e-6 for a vision transformer, 1e-8 for a ResNet.
  var eps: Double?
  /// Steps in which the rate grows linearly to its peak, rate·(step + 1)/warmup.
  var warmup = 10_000
  /// After warm-up: half a cosine down to 0 at the last step, or the peak rate to the end.
  var schedule = Schedule.cosine
  /// Largest norm of all gradients together, longer ones are scaled down to it; `none`: no clipping.
  var clipNorm: Double?
  /// Which parameters decay: open_clip's rule of old (matrices and embeddings), or its current one (embeddings of
  /// position and class do not).
  var decay = Decay.legacy
  /// Weight decay of the objective's own parameters (heads and scales), biases included; `auto`: 0.01 with the preset
  /// clip-kd, where the method's own code leaves PyTorch's default standing, otherwise as all other parameters.
  var headDecay: Double?

  enum Schedule: String, CaseIterable, FieldValue { case cosine, constant }
  enum Decay: String, CaseIterable, FieldValue { case legacy, current }

  mutating func fields(_ map: FieldMap) {
    map.field("rate", &rate)
    map.field("weight_decay", &weightDecay)
    map.optional("betas", &betas, none: "auto")
    map.optional("eps", &eps, none: "auto")
    map.field("warmup", &warmup)
    map.field("schedule", &schedule)
    map.optional("clip_norm", &clipNorm, none: "none")
    map.field("decay", &decay)
    map.optional("head_decay", &headDecay, none: "auto")
  }

  /// The same with `auto` replaced: betas and eps by what suits the kind of vision tower, as open_clip does.
  func resolved(visionTransformer: Bool, objective: ObjectivePreset) -> OptimizerConfig {
    var copy = self
    copy.betas = betas ?? (visionTransformer ? [0.9, 0.98] : [0.9, 0.999])
    copy.eps = eps ?? (visionTransformer ? 1e-6 : 1e-8)
    copy.headDecay = headDecay ?? (objective == .clipKD ? 0.01 : nil)
    return copy
  }
}

/// How many pairs a step sees.
struct BatchConfig: Section {
  /// Pairs in a step, over all ranks.
  var global = 1024
  /// Pairs that a rank's towers hold at once, which bounds memory; `all`: the rank's whole share.
  var micro: Int?
  /// What the student's towers compute again in backward, in place of keeping it, which saves memory.
  var recompute = Recompute.none

  mutating func fields(_ map: FieldMap) {
    map.field("global", &global)
    map.optional("micro", &micro, none: "all")
    map.field("recompute", &recompute)
  }
}

extension Recompute {
  /// What a run's header says of it.
  var note: String? {
    switch self {
    case .none: nil
    case .cheap: "recompute cheap: backward makes outputs of norms and activations again"
    case .blocks: "recompute blocks: of each block of the towers only the output is kept, and backward runs it again"
    }
  }
}
