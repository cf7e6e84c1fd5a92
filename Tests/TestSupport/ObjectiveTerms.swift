public import Model
internal import Settings

/// Constant weights and options of the terms, under short names.
extension ObjectiveOptions {
  public var clip: Double {
    get { self[ContrastiveSettings.self].weight.wrappedValue }
    set { self[ContrastiveSettings.self].weight = Scheduled(newValue) }
  }
  public var fd: Double {
    get { self[FDSettings.self].weight.wrappedValue }
    set { self[FDSettings.self].weight = Scheduled(newValue) }
  }
  public var crd: Double {
    get { self[CRDSettings.self].weight.wrappedValue }
    set { self[CRDSettings.self].weight = Scheduled(newValue) }
  }
  public var icl: Double {
    get { self[ICLSettings.self].weight.wrappedValue }
    set { self[ICLSettings.self].weight = Scheduled(newValue) }
  }
  public var crossKD: Double {
    get { self[CrossKDSettings.self].weight.wrappedValue }
    set { self[CrossKDSettings.self].weight = Scheduled(newValue) }
  }
  public var gd: Double {
    get { self[GDSettings.self].weight.wrappedValue }
    set { self[GDSettings.self].weight = Scheduled(newValue) }
  }
  public var afd: Double {
    get { self[AFDSettings.self].weight.wrappedValue }
    set { self[AFDSettings.self].weight = Scheduled(newValue) }
  }
  public var affinity: Double {
    get { self[AffinitySettings.self].weight.wrappedValue }
    set { self[AffinitySettings.self].weight = Scheduled(newValue) }
  }
  public var intra: Double {
    get { self[IntraSettings.self].weight.wrappedValue }
    set { self[IntraSettings.self].weight = Scheduled(newValue) }
  }
  public var rkd: Double {
    get { self[RKDSettings.self].weight.wrappedValue }
    set { self[RKDSettings.self].weight = Scheduled(newValue) }
  }
  public var rkdBeta: Double {
    get { self[RKDSettings.self].beta }
    set { self[RKDSettings.self].beta = newValue }
  }
  public var gram: Double {
    get { self[GramSettings.self].weight.wrappedValue }
    set { self[GramSettings.self].weight = Scheduled(newValue) }
  }
  public var gramWeights: GramWeights {
    get { self[GramSettings.self].weights }
    set { self[GramSettings.self].weights = newValue }
  }
  public var siglip: Double {
    get { self[SigLIPSettings.self].weight.wrappedValue }
    set { self[SigLIPSettings.self].weight = Scheduled(newValue) }
  }

  /// The use of the scale γ in both terms that share it.
  public var iclScale: CrossScaleForm {
    get { self[ICLSettings.self].form }
    set {
      self[ICLSettings.self].form = newValue
      self[CrossKDSettings.self].form = newValue
    }
  }
  public var gdScale: GDScale {
    get { self[GDSettings.self].scale }
    set { self[GDSettings.self].scale = newValue }
  }
  public var affinityScale: Double? {
    get { self[AffinitySettings.self].scale?.wrappedValue }
    set { self[AffinitySettings.self].scale = newValue.map { Scheduled($0) } }
  }
  public var intraOptions: IntraOptions {
    get { self[IntraSettings.self].switches }
    set { self[IntraSettings.self].switches = newValue }
  }
}
