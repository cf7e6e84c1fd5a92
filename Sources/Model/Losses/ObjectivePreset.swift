public import Settings

/// The objectives of the method's tables and of the systems that it is compared with, by name.
public enum ObjectivePreset: String, CaseIterable, FieldValue {
  /// No teacher.
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
  /// No gradient through the weights.
  case intraNoGradient = "intra-no-grad"
  /// Anchors weighed by CLIP's cross entropy.
  case intraCLIPWeighted = "intra-clip-weighted"
  /// Without the pictures' part.
  case intraNoImage = "intra-no-image"
  /// Without the captions' part.
  case intraNoText = "intra-no-text"

  public var options: ObjectiveOptions { ObjectiveOptions(self) }

  /// Sets what the preset has beside CLIP's loss.
  func set(_ options: inout ObjectiveOptions) {
    switch self {
    case .clip: return
    case .tinyCLIP:
      options[ContrastiveSettings.self].weight = Scheduled(0)
      options[AffinitySettings.self].weight = Scheduled(1)
      options[AffinitySettings.self].scale = Scheduled(50)
      options.fixedLogitScale = Scheduled(50)
      return
    default: break
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
