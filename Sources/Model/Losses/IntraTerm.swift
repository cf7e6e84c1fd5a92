public import Settings
public import Tensor

/// The settings of intra-modal divergence-weighted distillation.
public struct IntraSettings: TermSettings {
  public static let key = "intra"
  public static let needs: TermNeeds = [.teacherSoftmaxes]
  public var weight = Scheduled(0.0)
  public var switches = IntraOptions()

  public mutating func options(_ map: FieldMap) { map.section("intra_options", &switches) }
  public var mistakes: [Mistake] { switches.mistakes(isUsed: weight.isEverUsed) }

  public var scheduled: [String] {
    Modality.allCases.filter { weight.changes || switches.weights[$0].changes }.map(Self.name)
  }

  public var teacherSides: Modalities<Bool> { switches.weights.map(\.isEverUsed) }
  public var readsTeacherScale: Bool { switches.changes.contains { switches.at($0).readsTeacherScale } }

  /// The name of a modality's value.
  static func name(_ modality: Modality) -> String { "\(key)_\(modality.rawValue)" }
  public var weighedBy: [String] { switches.weighedBy }
  public var everWeighedBy: [String] { switches.changes.flatMap { switches.at($0).weighedBy } }
  public var multiplies: [String] { switches.multiplies.map(\.rawValue) }

  /// Some divergences, and pair weights, need sums that only the finished log-sum-exps give: a pass of their own.
  public func products(_ size: ObjectiveSize) -> TermProducts {
    let needsSums = switches.changes.contains { step in
      let switches = switches.at(step)
      return switches.granularity == .pair || switches.divergence == .jensenShannon
    }
    return TermProducts(
      similarities: size.student + size.teacher, gradients: size.student,
      modalities: switches.weights.both.count(where: \.isEverUsed), passes: needsSums ? 3 : 2)
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    let learns = switches.$temperature.points.contains { $0.value == .learned }
    func scale(_ modality: Modality) -> CrossScale<S> {
      CrossScale(parameters.scale("\(Self.name(modality))_logit_scale"))
    }
    return IntraTerm(
      parameters.tiles, learned: learns ? Modalities(image: scale(.image), text: scale(.text)) : nil)
  }
}

/// The intra-modal term: both modalities' divergences, their weights, and the gradient.
///
/// L = μ_I Σ_i w^I_i D^I_i + μ_T Σ_i w^T_i D^T_i. With one weight for each modality, L = μ_I w_I D̄_I + μ_T w_T D̄_T
/// with w_m = D̄_m / (D̄_I + D̄_T), where D̄ are the mean divergences of the used modalities.
///
/// Under the temperature `learned` each modality has a parameter a, which begins at ln(1/0.07). The scale s of `Intra`
/// is a or e^a, so that da = ds or da = s ds.
///
/// The weights may also multiply rows of other terms, held constant: the image-to-text row i by w^I_i/w̄^I, where w̄ is
/// the mean over the global batch, and the text-to-image row i by w^T_i/w̄^T.
final class IntraTerm<S: Scalar>: DistillationTerm {
  private let parts: [Intra<S>]
  /// The parts that are used in this step, after the first stage.
  private var used: [Intra<S>] = []
  private var outcome = TermOutcome()
  /// The scales of the temperature `learned`, if any step has it.
  private let learned: Modalities<CrossScale<S>>?

  init(_ tiles: Tiles<S>, learned: Modalities<CrossScale<S>>?) {
    self.learned = learned
    parts = Modality.allCases.map { Intra($0, tiles) }
  }

  func rowLosses(_ context: LossContext<S>) {
    let switches = context.options[IntraSettings.self].switches
    for part in parts { part.value = 0 }
    used = parts.filter { switches.weight($0.modality) != 0 }
    outcome = TermOutcome()
    if switches.diagonal == .mask, context.batch.count < 3 {
      used = []
      outcome.notes = [
        "\(IntraSettings.key): a batch of \(context.batch.count) leaves an anchor fewer than two candidates: value and "
          + "gradient are 0"
      ]
    }
    for part in used {
      let (scale, teachers) = scales(part.modality, context, switches)
      let strips = teachers.map { $0.strip(part.modality, part.modality) }
      part.measure(context.student[part.modality], scale: scale, strips, switches, context.batch)
    }
  }

  func rowWeights(_ context: LossContext<S>) throws {
    let settings = context.options[IntraSettings.self]
    switch settings.switches.granularity {
    case .row: try weighRows(settings, context)
    case .pair: try weighPairs(settings, context)
    case .modality: try weighModalities(settings, context)
    }
  }

  func accumulate(_ context: LossContext<S>) throws -> TermOutcome {
    let settings = context.options[IntraSettings.self]
    let switches = settings.switches
    var gradient = 0.0
    for part in used {
      let scale = scales(part.modality, context, switches).student
      let slope = try part.accumulate(context.student[part.modality], scale: scale, context.ranks)
      gradient += slope
      guard switches.temperature == .learned, let own = learned?[part.modality] else { continue }
      own.gradient += slope
      own.finish()
    }
    if switches.temperature == .ownScales { outcome.scaleGradient = gradient }
    for part in parts where switches.weight(part.modality) != 0 {
      let weight = settings.weight.wrappedValue * switches.weight(part.modality)
      outcome.values.append(.init(name: IntraSettings.name(part.modality), weight: weight, value: part.value))
    }
    return outcome
  }

  /// Returns the multiplier of the student's similarities within a modality, and the teachers with theirs.
  private func scales(
    _ modality: Modality, _ context: LossContext<S>, _ switches: IntraOptions
  ) -> (student: S, teachers: [Teacher<S>]) {
    switch switches.temperature {
    case .ownScales, .ownDetached: return (context.scale, context.teachers)
    case .teacherScaleBoth: return (context.teachers[0].scale, context.teachers)
    case .fixedTau:
      let scale = S(1 / switches.tau)
      return (scale, context.teachers.map { $0.with(scale: scale) })
    case .learned:
      guard let own = learned?[modality] else { preconditionFailure("a scale became learned without being declared") }
      let scale = own.value(switches.learnedScale)
      if switches.learnedTeacher == .own { return (scale, context.teachers) }
      let start: S = switches.learnedScale.scale(S(ObjectiveParameters<S>.initialScale))
      return (scale, context.teachers.map { $0.with(scale: start) })
    }
  }

  /// The scale that a part's modality has learned; nil under another temperature.
  private func learnedScale(_ part: Intra<S>, _ context: LossContext<S>) -> Double? {
    let switches = context.options[IntraSettings.self].switches
    return switches.temperature == .learned ? Double(scales(part.modality, context, switches).student) : nil
  }

  private func weighRows(_ settings: IntraSettings, _ context: LossContext<S>) throws {
    let (switches, n) = (settings.switches, context.batch.count)
    let source = settings.weighedBy.first.map { context.term($0) }
    let others = settings.multiplies.filter { $0 != settings.key }
    var equal = switches
    equal.weighting = .uniform
    for part in used {
      let modality = part.modality
      let found = try IntraWeights(
        source: source?.localLosses?[modality] ?? part.divergence, divergence: part.divergence, switches, count: n,
        context.ranks)
      try report(part, found.weights.map { $0 * Double(n) }, context)
      if !others.isEmpty {
        try context.multiplyRows(of: others, modality, by: found.multiples(count: n, context.ranks))
      }
      let isOwn = switches.multiplies.contains(.intra)
      let own =
        try isOwn
        ? found
        : IntraWeights(source: part.divergence, divergence: part.divergence, equal, count: n, context.ranks)
      part.value = own.loss
      let factor = settings.weight.wrappedValue * switches.weight(modality)
      let throughOwn = switches.weightGradient && source == nil
      for (i, w) in own.weights.enumerated() {
        part.factor.own[i] = S(factor * (w + (throughOwn ? own.slopes[i] : 0)))
      }
      // The weights depend on another term's losses, and so their gradient flows back through that term's rows.
      guard switches.weightGradient, isOwn, let source else { continue }
      guard let vector = source.weights?[modality] else {
        preconditionFailure("the rows of the source have no weights")
      }
      for (i, slope) in found.slopes.enumerated() { vector.own[i] += S(factor * slope) }
      try vector.gather(context.ranks)
    }
  }

  private func weighPairs(_ settings: IntraSettings, _ context: LossContext<S>) throws {
    for part in used {
      let pairs = part.pairs
      let (losses, weights) = (pairs.loss.array.map { Double($0) }, pairs.weight.array.map { Double($0) })
      let (factors, ratios): ([Double], [Double])
      // Where student and teacher agree on every pair, there is nothing to weigh.
      switch settings.switches.pairTotal {
      case .all:
        var sums = [sum(pairs.loss), sum(pairs.weight)]
        try context.ranks.allReduce(&sums)
        let factor = sums[1] == 0 ? 0 : Double(context.batch.count) / sums[1]
        part.value = factor * sums[0]
        factors = weights.map { _ in factor }
        ratios = weights.map { _ in sums[1] == 0 ? 0 : sums[0] / sums[1] }
      case .row:
        factors = weights.map { $0 == 0 ? 0 : 1 / $0 }
        ratios = zip(losses, factors).map(*)
        var sums = [ratios.reduce(0, +)]
        try context.ranks.allReduce(&sums)
        part.value = sums[0]
      }
      let weight = settings.weight.wrappedValue * settings.switches.weight(part.modality)
      part.weigh(factors.map { weight * $0 }, ratios: ratios)
      try report(part, zip(weights, factors).map(*), context)
    }
  }

  private func weighModalities(_ settings: IntraSettings, _ context: LossContext<S>) throws {
    guard !used.isEmpty else { return }
    let n = Double(context.batch.count)
    var means = used.map { sum($0.divergence) / n }
    try context.ranks.allReduce(&means)
    let total = means.reduce(0, +) + IntraWeights.epsilon
    let parts = zip(used, means).map { (part: $0, mu: settings.switches.weight($0.modality), mean: $1) }
    let loss = parts.reduce(0) { $0 + $1.mu * $1.mean * $1.mean / total }
    for (part, mu, mean) in parts {
      part.value = mean * mean / total
      let slope = settings.switches.weightGradient ? (2 * mu * mean - loss) / total : mu * mean / total
      fill(part.factor.own, S(settings.weight.wrappedValue * slope / n))
      try report(part, [Double](repeating: mean / total, count: context.batch.rows.count), context)
    }
  }

  /// Adds a part's means and deviations over the global batch to the outcome. `weights` are multiples of 1/N.
  private func report(_ part: Intra<S>, _ weights: [Double], _ context: LossContext<S>) throws {
    let numbers = [part.divergence.array.map { Double($0) }, weights]
    let n = Double(context.batch.count)
    var means = numbers.map { $0.reduce(0, +) / n }
    try context.ranks.allReduce(&means)
    var variances = zip(numbers, means).map { numbers, mean in
      numbers.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n
    }
    try context.ranks.allReduce(&variances)
    outcome.anchors.append(
      .init(
        name: part.modality.rawValue, divergenceMean: means[0], divergenceDeviation: variances[0].squareRoot(),
        weightMean: means[1], weightDeviation: variances[1].squareRoot(), scale: learnedScale(part, context)))
  }
}
