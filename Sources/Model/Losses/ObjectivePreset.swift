public import Settings

/// The named objectives: those of the method's tables, and those of the systems that it is compared with.
public enum ObjectivePreset: String, CaseIterable, FieldValue {
  /// CLIP's loss alone, without a teacher.
  case clip
  /// CLIP + 2000 FD + CRD.
  case standard
  /// CLIP-KD: standard + ICL with the raw scale.
  case clipKD = "clip-kd"
  /// TinyCLIP: affinity mimicking alone, both scales fixed at 50.
  case tinyCLIP = "tinyclip"
  /// Standard + the intra-modal term.
  case intra
  /// The intra-modal term with weights 1/N.
  case intraUniform = "intra-uniform"
  /// The intra-modal term without gradient through its weights.
  case intraNoGradient = "intra-no-grad"
  /// The intra-modal term with anchors weighed by CLIP's cross entropy.
  case intraCLIPWeighted = "intra-clip-weighted"
  /// The intra-modal term without the images' part.
  case intraNoImage = "intra-no-image"
  /// The intra-modal term without the captions' part.
  case intraNoText = "intra-no-text"

  public var options: ObjectiveOptions { ObjectiveOptions(self) }

  /// Sets the values in which the preset differs from CLIP's loss alone.
  func set(_ options: inout ObjectiveOptions) {
    if self == .clip { return }
    if self == .tinyCLIP {
      options[ContrastiveSettings.self].weight = Scheduled(0)
      options[AffinitySettings.self].weight = Scheduled(1)
      options[AffinitySettings.self].scale = Scheduled(50)
      options.fixedLogitScale = Scheduled(50)
      return
    }
    options[FDSettings.self].weight = Scheduled(2000)
    options[CRDSettings.self].weight = Scheduled(1)
    switch self {
    case .standard: return
    case .clipKD: options[ICLSettings.self].weight = Scheduled(1)
    default: options[IntraSettings.self].weight = Scheduled(1)
    }
    switch self {
    case .intraUniform: options[IntraSettings.self].switches.weighting = .uniform
    case .intraNoGradient: options[IntraSettings.self].switches.weightGradient = false
    case .intraCLIPWeighted: options[IntraSettings.self].switches.source = .clip
    case .intraNoImage: options[IntraSettings.self].switches.image = 0
    case .intraNoText: options[IntraSettings.self].switches.text = 0
    default: break
    }
  }
}
