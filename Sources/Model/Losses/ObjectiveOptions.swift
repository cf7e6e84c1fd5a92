/// What is minimised: a sum of weighted terms, each over the global batch. A weight of 0 leaves a term out.
///
/// Words: u, v are the student's unit rows of pictures and captions, x, y the teacher's, ũ, ṽ the student's in the
/// teacher's width (through heads where the widths differ), α and β the scales of student and teacher.
public struct ObjectiveOptions: Equatable, Sendable {
  /// CLIP's symmetric cross entropy of α u vᵀ.
  public var clip = 1.0
  /// Feature distillation: squared distance of ũ to x and of ṽ to y.
  public var fd = 0.0
  /// Contrastive relational distillation: divergence of the student's cross-modal softmaxes from the teacher's.
  public var crd = 0.0
  /// Interactive contrastive learning: student anchors against teacher keys of the other modality.
  public var icl = 0.0
  /// The divergence of ICL's softmaxes from the teacher's.
  public var crossKD = 0.0
  /// Gradient distillation: squared distance of the contrastive loss's gradients.
  public var gd = 0.0
  /// Augmented feature distillation: contrastive loss of student and teacher rows fused.
  public var afd = 0.0
  /// TinyCLIP's affinity mimicking: soft cross entropy of the cross-modal softmaxes.
  public var affinity = 0.0
  /// Intra-modal divergence-weighted distillation.
  public var intra = 0.0

  /// How ICL's and cross-KD's learned scale γ is used.
  public var iclScale = ICLScale.raw
  /// By what GD's similarities are multiplied.
  public var gdScale = GDScale.reciprocal
  /// Both scales of affinity mimicking; nil: each model's own.
  public var affinityScale: Double? = nil
  public var intraOptions = IntraOptions()
  /// The student's scale where it is not learned: the parameter is held at its logarithm.
  public var fixedLogitScale: Double? = nil

  public init() {}

  /// As CLIP-KD has it, γ multiplies as it is (2.66 at the start); or its exponential does (14.3).
  public enum ICLScale: String, CaseIterable, Sendable { case raw, exp }

  /// As CLIP-KD has it, GD divides by the scale; or it multiplies, as the loss itself does.
  public enum GDScale: String, CaseIterable, Sendable { case reciprocal, proper }

  /// Whether any term looks at a teacher.
  public var needsTeacher: Bool { [fd, crd, icl, crossKD, gd, afd, affinity, intra].contains { $0 != 0 } }
}

/// The switches of the intra-modal term. Defaults are the reading that the method's tables support best.
public struct IntraOptions: Equatable, Sendable {
  /// Weight of the pictures' part, and of the captions'; 0 leaves a part out.
  public var image = 1.0
  public var text = 1.0
  public var granularity = Granularity.row
  public var weighting = Weighting.sum
  /// Whether gradient flows through the weights.
  public var weightGradient = true
  public var source = Source.intraKL
  public var divergence = Divergence.forward
  public var diagonal = Diagonal.mask
  public var temperature = Temperature.ownScales
  /// The temperature of `fixedTau`: both scales are 1/τ.
  public var tau = 0.1
  /// T of the weighting `softmax`.
  public var softmaxTemperature = 1.0

  public init() {}

  /// What a weight belongs to: an anchor, a pair of anchor and candidate, or a modality.
  public enum Granularity: String, CaseIterable, Sendable { case row, pair, modality }

  /// How N anchors' sources a become weights w: 1/N; a/Σa; a/N; softmax(a/T); (1 − e^−a)/N; (1 + a)/N.
  public enum Weighting: String, CaseIterable, Sendable {
    case uniform, sum, raw, softmax, expsat
    case onePlus = "one_plus"
  }

  /// Whose disagreement weighs an anchor: the term's own divergence, the cross-modal one, or CLIP's cross entropy.
  public enum Source: String, CaseIterable, Sendable {
    case intraKL = "intra_kl"
    case crossKL = "cross_kl"
    case clip
  }

  /// KL(teacher ‖ student), KL(student ‖ teacher), or Jensen and Shannon's.
  public enum Divergence: String, CaseIterable, Sendable {
    case forward = "kl_fwd"
    case reverse = "kl_rev"
    case jensenShannon = "js"
  }

  /// Whether an anchor is a candidate of its own.
  public enum Diagonal: String, CaseIterable, Sendable { case mask, keep }

  /// The scales of student and teacher: α and β; the same without gradient to α; β for both; 1/τ for both.
  public enum Temperature: String, CaseIterable, Sendable {
    case ownScales = "own_scales"
    case ownDetached = "own_detached"
    case teacherScaleBoth = "teacher_scale_both"
    case fixedTau = "fixed_tau"
  }
}
