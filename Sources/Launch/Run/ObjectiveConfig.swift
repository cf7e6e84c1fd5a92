import Model

/// What is minimised: a preset, and any weight, temperature or switch of it set otherwise. The short form
/// `objective: NAME` is a preset.
///
/// The preset's own values are the defaults of all other keys, and stand in the resolved run.
struct ObjectiveConfig: Section {
  var preset = ObjectivePreset.clip
  /// Weights of the terms; 0 leaves a term out. `ObjectiveOptions` says what each term is.
  var clip: Scheduled<Double>
  var fd: Scheduled<Double>
  var crd: Scheduled<Double>
  var icl: Scheduled<Double>
  var crossKD: Scheduled<Double>
  var gd: Scheduled<Double>
  var afd: Scheduled<Double>
  var affinity: Scheduled<Double>
  var intra: Scheduled<Double>
  var iclScale: Scheduled<ObjectiveOptions.ICLScale>
  var gdScale: Scheduled<ObjectiveOptions.GDScale>
  /// Both scales of affinity mimicking; `own`: each model's.
  var affinityScale: Scheduled<Double>?
  /// The student's scale e^logit_scale where it is not `learned`.
  var logitScale: Scheduled<Double>?
  var intraOptions: IntraConfig

  init() { self.init(.clip) }

  init(_ preset: ObjectivePreset) {
    let options = preset.options
    self.preset = preset
    clip = Scheduled(options.clip)
    fd = Scheduled(options.fd)
    crd = Scheduled(options.crd)
    icl = Scheduled(options.icl)
    crossKD = Scheduled(options.crossKD)
    gd = Scheduled(options.gd)
    afd = Scheduled(options.afd)
    affinity = Scheduled(options.affinity)
    intra = Scheduled(options.intra)
    iclScale = Scheduled(options.iclScale)
    gdScale = Scheduled(options.gdScale)
    affinityScale = options.affinityScale.map { Scheduled($0) }
    logitScale = options.fixedLogitScale.map { Scheduled($0) }
    intraOptions = IntraConfig(options.intraOptions)
  }

  mutating func fields(_ map: FieldMap) {
    map.field("preset", &preset)
    if map.isReading { self = ObjectiveConfig(preset) }
    map.field("clip", &clip)
    map.field("fd", &fd)
    map.field("crd", &crd)
    map.field("icl", &icl)
    map.field("cross_kd", &crossKD)
    map.field("gd", &gd)
    map.field("afd", &afd)
    map.field("affinity", &affinity)
    map.field("intra", &intra)
    map.field("icl_scale", &iclScale)
    map.field("gd_scale", &gdScale)
    map.optional("affinity_scale", &affinityScale, none: "own")
    map.optional("logit_scale", &logitScale, none: "learned")
    map.section("intra_options", &intraOptions)
  }

  static var expectation: String { "the name of a preset, or a section" }

  static func shorthandKey(_ text: String) -> String? { "preset" }
}

/// The switches of the intra-modal term, in the words of `IntraOptions`.
struct IntraConfig: Section {
  var image: Scheduled<Double>
  var text: Scheduled<Double>
  var granularity: Scheduled<IntraOptions.Granularity>
  var weighting: Scheduled<IntraOptions.Weighting>
  var weightGradient: Scheduled<Bool>
  var source: Scheduled<IntraOptions.Source>
  var divergence: Scheduled<IntraOptions.Divergence>
  var diagonal: Scheduled<IntraOptions.Diagonal>
  var temperature: Scheduled<IntraOptions.Temperature>
  var tau: Scheduled<Double>
  var softmaxTemperature: Scheduled<Double>

  init() { self.init(IntraOptions()) }

  init(_ options: IntraOptions) {
    image = Scheduled(options.image)
    text = Scheduled(options.text)
    granularity = Scheduled(options.granularity)
    weighting = Scheduled(options.weighting)
    weightGradient = Scheduled(options.weightGradient)
    source = Scheduled(options.source)
    divergence = Scheduled(options.divergence)
    diagonal = Scheduled(options.diagonal)
    temperature = Scheduled(options.temperature)
    tau = Scheduled(options.tau)
    softmaxTemperature = Scheduled(options.softmaxTemperature)
  }

  mutating func fields(_ map: FieldMap) {
    map.field("image", &image)
    map.field("text", &text)
    map.field("granularity", &granularity)
    map.field("weighting", &weighting)
    map.field("weight_grad", &weightGradient)
    map.field("source", &source)
    map.field("divergence", &divergence)
    map.field("diagonal", &diagonal)
    map.field("temperature", &temperature)
    map.field("tau", &tau)
    map.field("softmax_temperature", &softmaxTemperature)
  }
}

extension ObjectivePreset: FieldValue {}
extension ObjectiveOptions.ICLScale: Schedulable {}
extension ObjectiveOptions.GDScale: Schedulable {}
extension IntraOptions.Granularity: Schedulable {}
extension IntraOptions.Weighting: Schedulable {}
extension IntraOptions.Source: Schedulable {}
extension IntraOptions.Divergence: Schedulable {}
extension IntraOptions.Diagonal: Schedulable {}
extension IntraOptions.Temperature: Schedulable {}

// MARK: Over the steps

extension ObjectiveConfig {
  /// What holds in a step, counted from 0.
  func options(at step: Int) -> ObjectiveOptions { options(at: step) { $0.value(at: step) } }

  /// What holds in some step of the run: every weight at its largest, so that a term that is ever used is used here.
  /// Parameters are declared for these options, and they say whether the run needs a teacher.
  var declared: ObjectiveOptions {
    options(at: 0) { number in number.points.map(\.value).max() ?? 0 }
  }

  /// The terms, in the words of `ObjectiveReport`, whose weights change over the steps.
  var scheduledTerms: Set<String> {
    let parts = ["intra_image": [intra, intraOptions.image], "intra_text": [intra, intraOptions.text]]
    return Set(weights.filter(\.weight.changes).map(\.key) + parts.filter { $0.value.contains(where: \.changes) }.keys)
      .subtracting(["intra"])
  }

  /// Every weight under its key.
  var weights: [(key: String, weight: Scheduled<Double>)] {
    [
      ("clip", clip), ("fd", fd), ("crd", crd), ("icl", icl), ("cross_kd", crossKD), ("gd", gd), ("afd", afd),
      ("affinity", affinity), ("intra", intra),
    ]
  }

  private func options(at step: Int, _ number: (Scheduled<Double>) -> Double) -> ObjectiveOptions {
    var options = ObjectiveOptions()
    options.clip = number(clip)
    options.fd = number(fd)
    options.crd = number(crd)
    options.icl = number(icl)
    options.crossKD = number(crossKD)
    options.gd = number(gd)
    options.afd = number(afd)
    options.affinity = number(affinity)
    options.intra = number(intra)
    options.iclScale = iclScale.value(at: step)
    options.gdScale = gdScale.value(at: step)
    options.affinityScale = affinityScale.map(number)
    options.fixedLogitScale = logitScale.map(number)
    options.intraOptions = intraOptions.options(at: step, number)
    return options
  }
}

extension IntraConfig {
  fileprivate func options(at step: Int, _ number: (Scheduled<Double>) -> Double) -> IntraOptions {
    var options = IntraOptions()
    options.image = number(image)
    options.text = number(text)
    options.granularity = granularity.value(at: step)
    options.weighting = weighting.value(at: step)
    options.weightGradient = weightGradient.value(at: step)
    options.source = source.value(at: step)
    options.divergence = divergence.value(at: step)
    options.diagonal = diagonal.value(at: step)
    options.temperature = temperature.value(at: step)
    options.tau = number(tau)
    options.softmaxTemperature = number(softmaxTemperature)
    return options
  }

  /// The steps at which a switch changes, and the first.
  var changes: [Int] {
    func steps<Value>(_ scheduled: Scheduled<Value>) -> [Int] { scheduled.points.map(\.step) }
    let all =
      steps(granularity) + steps(weighting) + steps(weightGradient) + steps(source) + steps(divergence)
      + steps(diagonal) + steps(temperature)
    return Set([0] + all).sorted()
  }
}
