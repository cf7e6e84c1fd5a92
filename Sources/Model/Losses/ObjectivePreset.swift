/// The objectives of the method's tables and of the systems that it is compared with, by name.
public enum ObjectivePreset: String, CaseIterable, Sendable {
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

  public var options: ObjectiveOptions {
    var options = ObjectiveOptions()
    switch self {
    case .clip: return options
    case .tinyCLIP:
      options.clip = 0
      options.affinity = 1
      options.affinityScale = 50
      options.fixedLogitScale = 50
      return options
    default: break
    }
    options.fd = 2000
    options.crd = 1
    switch self {
    case .standard: return options
    case .clipKD: options.icl = 1
    default: options.intra = 1
    }
    switch self {
    case .intraUniform: options.intraOptions.weighting = .uniform
    case .intraNoGradient: options.intraOptions.weightGradient = false
    case .intraCLIPWeighted: options.intraOptions.source = .clip
    case .intraNoImage: options.intraOptions.image = 0
    case .intraNoText: options.intraOptions.text = 0
    default: break
    }
    return options
  }
}
