public import Settings

/// The switches of the intra-modal term, each of which may change over the steps. The defaults are the reading of the
/// method that its tables support best.
public struct IntraOptions: Section {
  /// The weights of the images' and the captions' parts; 0 leaves a part out.
  @Scheduled public var image = 1.0
  @Scheduled public var text = 1.0
  @Scheduled public var granularity = Granularity.row
  @Scheduled public var weighting = Weighting.sum
  /// True if gradient flows through the weights.
  @Scheduled public var weightGradient = true
  @Scheduled public var source = Source.intraKL
  @Scheduled public var divergence = Divergence.forward
  @Scheduled public var diagonal = Diagonal.mask
  @Scheduled public var temperature = Temperature.ownScales
  /// τ of the temperature `fixedTau`, under which both scales are 1/τ.
  @Scheduled public var tau = 0.1
  /// T of the weighting `softmax`; below 0 the weights fall with the source.
  @Scheduled public var softmaxTemperature = 1.0
  /// ε′ of the weighting `inverse`.
  @Scheduled public var inverseEpsilon = 1e-6
  @Scheduled public var pairTotal = PairTotal.all
  /// The terms whose rows the anchors' weights multiply, in all steps.
  public var multiplies = [Multiplied.intra]
  /// The form of the temperature `learned`, and the teacher's scale beside it.
  @Scheduled public var learnedScale = CrossScaleForm.raw
  @Scheduled public var learnedTeacher = LearnedTeacher.start

  public init() {}

  public mutating func fields(_ map: FieldMap) {
    map.field("image", &$image)
    map.field("text", &$text)
    map.field("granularity", &$granularity)
    map.field("weighting", &$weighting)
    map.field("weight_grad", &$weightGradient)
    map.field("source", &$source)
    map.field("divergence", &$divergence)
    map.field("diagonal", &$diagonal)
    map.field("temperature", &$temperature)
    map.field("tau", &$tau)
    map.field("softmax_temperature", &$softmaxTemperature)
    map.field("inverse_epsilon", &$inverseEpsilon)
    map.field("pair_total", &$pairTotal)
    map.field("multiplies", &multiplies)
    map.field("learned_scale", &$learnedScale)
    map.field("learned_teacher", &$learnedTeacher)
  }

  /// There is one weight for each anchor (row), for each pair of anchor and candidate, or for each modality.
  public enum Granularity: String, CaseIterable, Schedulable { case row, pair, modality }

  /// The formula that turns the sources a of N anchors into weights w: 1/N; a/Σa; a/N; softmax(a/T); (1 − e^−a)/N;
  /// (1 + a)/N; r/Σr with r = 1/(a + ε′).
  public enum Weighting: String, CaseIterable, Schedulable {
    case uniform, sum, raw, softmax, expsat
    case onePlus = "one_plus"
    case inverse
  }

  /// The pairs over whose sum |p − q| is divided to weigh a pair: `all` of the batch, or those of its `row`, so that
  /// all rows count alike.
  public enum PairTotal: String, CaseIterable, Schedulable { case all, row }

  /// A term whose rows the anchors' weights w multiply. Rows of the other terms are multiplied by w over its mean, held
  /// constant: rows whose anchor is an image by the images' weights, the captions' likewise. Without `intra` the
  /// term's own anchors have equal weights.
  public enum Multiplied: String, CaseIterable, FieldValue { case intra, clip, crd, fd }

  /// The loss that weighs an anchor: the term's own divergence, the cross-modal divergence, or CLIP's cross entropy.
  public enum Source: String, CaseIterable, Schedulable {
    case intraKL = "intra_kl"
    case crossKL = "cross_kl"
    case clip
  }

  /// The divergence is KL(teacher ‖ student), KL(student ‖ teacher), or that of Jensen and Shannon.
  public enum Divergence: String, CaseIterable, Schedulable {
    case forward = "kl_fwd"
    case reverse = "kl_rev"
    case jensenShannon = "js"
  }

  /// `mask` leaves each anchor out of its own candidates; `keep` makes it one of them.
  public enum Diagonal: String, CaseIterable, Schedulable { case mask, keep }

  /// The scales of student and teacher are α and β; α and β without gradient to α; β for both; 1/τ for both; or a
  /// number that each modality learns, beside the teacher's as `LearnedTeacher` says.
  public enum Temperature: String, CaseIterable, Schedulable {
    case ownScales = "own_scales"
    case ownDetached = "own_detached"
    case teacherScaleBoth = "teacher_scale_both"
    case fixedTau = "fixed_tau"
    case learned
  }

  /// The teacher's scale beside a learned one: that at which the learned one begins, or the teacher's `own` β.
  public enum LearnedTeacher: String, CaseIterable, Schedulable { case start, own }

  /// True if the teacher's own scale multiplies its cosines.
  var readsTeacherScale: Bool {
    switch temperature {
    case .fixedTau: false
    case .learned: learnedTeacher == .own
    case .ownScales, .ownDetached, .teacherScaleBoth: true
    }
  }

  /// μ over the steps.
  var weights: Modalities<Scheduled<Double>> { Modalities(image: $image, text: $text) }
  /// μ in this step.
  func weight(_ modality: Modality) -> Double { modality == .image ? image : text }

  /// The keys of the terms whose row losses weigh the anchors; none if these are the term's own, or if nothing does.
  var weighedBy: [String] {
    guard granularity == .row, weighting != .uniform else { return [] }
    return switch source {
    case .intraKL: []
    case .crossKL: [CRDSettings.key]
    case .clip: [ContrastiveSettings.key]
    }
  }

  /// The first step, and every step at which a switch changes.
  var changes: [Int] {
    let steps = [
      $granularity.steps, $weighting.steps, $weightGradient.steps, $source.steps, $divergence.steps, $diagonal.steps,
      $temperature.steps,
    ]
    return Set([0] + steps.joined()).sorted()
  }
}

// MARK: Mistakes

extension IntraOptions {
  /// Returns invalid values and contradictions, with paths below `objective`. A term that is not used may contain
  /// contradictions.
  func mistakes(isUsed: Bool) -> [Mistake] {
    var found = Modality.allCases.flatMap { modality in
      weights[modality].mistakes("intra_options.\(modality.rawValue)", expected: "a weight of 0 or more") { $0 >= 0 }
    }
    found += $tau.mistakes("intra_options.tau", expected: "a temperature of more than 0") { $0 > 0 }
    let isFalling = $softmaxTemperature.points[0].value < 0
    found += $softmaxTemperature.mistakes(
      "intra_options.softmax_temperature", expected: "a number other than 0, of one sign in all steps"
    ) { isFalling ? $0 < 0 : $0 > 0 }
    found += $inverseEpsilon.mistakes("intra_options.inverse_epsilon", expected: "more than 0") { $0 > 0 }
    if multiplies.isEmpty {
      let text = "expected at least one of \(Multiplied.expectation), found an empty list; for equal weights set "
      found.append(("intra_options.multiplies", text + "weighting to uniform"))
    }
    if Set(multiplies).count < multiplies.count {
      found.append(("intra_options.multiplies", "expected each term once, found \(multipliedText)"))
    }
    guard isUsed else { return found }
    if !weights.both.contains(where: \.isEverUsed) {
      let (key, own) = (IntraSettings.key, "objective.\(IntraSettings.key)")
      let text = "image and text are both 0, so \(key) has no part; give one of them a weight, or set \(own) to 0"
      found.append(("intra_options", text))
    }
    return found + switchMistakes
  }

  private var multipliedText: String { "[\(multiplies.map(\.rawValue).joined(separator: ", "))]" }

  /// The switches that contradict each other, in the first step in which any do.
  private var switchMistakes: [Mistake] {
    for step in changes {
      let found = at(step).contradictions
      let when = step == 0 ? "" : " (from step \(step) on)"
      if !found.isEmpty { return found.map { ("intra_options.\($0.path)", $0.text + when) } }
    }
    return []
  }

  private var contradictions: [Mistake] {
    let sum = (key: "weighting", value: weighting.rawValue, wanted: "sum")
    let own = (key: "source", value: source.rawValue, wanted: "intra_kl")
    let why: String
    var wanted = [sum, own, (key: "multiplies", value: multipliedText, wanted: "[intra]")]
    switch granularity {
    case .row:
      why = "equal weights have no source"
      wanted = weighting == .uniform ? [own] : []
    case .pair:
      why = "pairs are weighed by |p − q| over its sum, on KL(teacher ‖ student)"
      wanted.append(("divergence", divergence.rawValue, "kl_fwd"))
    case .modality: why = "a modality is weighed by its mean divergence over the sum of both"
    }
    return wanted.filter { $0.value != $0.wanted }.map { key, value, wanted in
      (key, "\(why); set \(key) to \(wanted), found \(value)")
    }
  }
}
