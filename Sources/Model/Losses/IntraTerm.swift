public import Settings
public import Tensor

/// The settings of intra-modal divergence-weighted distillation.
public struct IntraSettings: TermSettings {
  public static let key = "intra"
  public static let needs: TermNeeds = [.teacherSoftmaxes]

  public var weight = Scheduled(0.0)
  public var switches = IntraOptions()

  public init() {}

  public mutating func options(_ map: FieldMap) { map.section("intra_options", &switches) }

  public var mistakes: [(path: String, text: String)] { switches.mistakes(isUsed: weight.isEverUsed) }

  public var scheduled: [String] {
    [("image", switches.$image), ("text", switches.$text)].filter { weight.changes || $0.1.changes }
      .map { "\(Self.key)_\($0.0)" }
  }

  public var weighedBy: [String] {
    guard switches.granularity == .row, switches.weighting != .uniform else { return [] }
    return switches.source.term.map { [$0] } ?? []
  }

  public var everWeighedBy: [String] {
    switches.changes.flatMap { step in
      var settings = self
      settings.switches.advance(to: step)
      return settings.weighedBy
    }
  }

  public func products(_ size: ObjectiveSize) -> TermProducts {
    TermProducts(
      similarities: size.student + size.teacher, gradients: size.student,
      modalities: [switches.$image, switches.$text].count(where: \.isEverUsed))
  }

  public func term<S: Scalar>(_ parameters: ObjectiveParameters<S>) -> any DistillationTerm<S> {
    IntraTerm(parameters.tiles)
  }
}

/// The intra-modal term: both modalities' divergences, their weights, and the gradient.
///
/// L = μ_I Σ_i w^I_i D^I_i + μ_T Σ_i w^T_i D^T_i. With one weight for each modality, L = μ_I w_I D̄_I + μ_T w_T D̄_T
/// with w_m = D̄_m / (D̄_I + D̄_T), where D̄ are the mean divergences of the used modalities.
final class IntraTerm<S: Scalar>: DistillationTerm {
  private let parts: Modalities<Intra<S>>
  /// The modalities that are used in this step, after the first stage.
  private var used: [Part] = []
  /// Each modality's value without μ, the same on every rank.
  private var values = Modalities(image: 0.0, text: 0.0)
  private var anchors: [ObjectiveReport.Anchors] = []

  init(_ tiles: Tiles<S>) { parts = Modalities(image: Intra(tiles), text: Intra(tiles)) }

  func rowLosses(_ context: LossContext<S>) {
    let switches = context.options[IntraSettings.self].switches
    (used, values, anchors) = ([], Modalities(image: 0, text: 0), [])
    // With fewer than two candidates, value and gradient are 0.
    guard !Self.isTooSmall(context.batch, switches) else { return }
    let (scale, teachers) = scales(context, switches)
    if switches.image != 0 {
      used.append(
        Part(
          \.image, "image", switches.image, parts.image, context.student.image, teachers.map(\.within.image)))
    }
    if switches.text != 0 {
      used.append(
        Part(\.text, "text", switches.text, parts.text, context.student.text, teachers.map(\.within.text)))
    }
    for part in used {
      part.intra.measure(part.student, scale: scale, part.teachers, switches, context.batch)
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
    let scale = scales(context, switches).student
    var gradient = 0.0
    for part in used { gradient += try part.intra.accumulate(part.student, scale: scale, context.ranks) }
    if switches.temperature == .ownScales { context.scaleGradient += gradient }

    var outcome = TermOutcome()
    for (name, mu, value) in [("image", switches.image, values.image), ("text", switches.text, values.text)]
    where mu != 0 {
      let weight = settings.weight.wrappedValue * mu
      outcome.values.append(.init(name: "\(IntraSettings.key)_\(name)", weight: weight, value: value))
    }
    outcome.anchors = anchors
    if Self.isTooSmall(context.batch, switches) {
      outcome.notes = [
        "\(IntraSettings.key): a batch of \(context.batch.count) leaves an anchor fewer than two candidates: value and "
          + "gradient are 0"
      ]
    }
    used = []
    return outcome
  }

  private static func isTooSmall(_ batch: LocalBatch, _ switches: IntraOptions) -> Bool {
    switches.diagonal == .mask && batch.count < 3
  }

  /// Returns the multiplier of the student's similarities within a modality, and the teachers with theirs.
  private func scales(_ context: LossContext<S>, _ switches: IntraOptions) -> (student: S, teachers: [Teacher<S>]) {
    switch switches.temperature {
    case .ownScales, .ownDetached: return (context.scale, context.teachers)
    case .teacherScaleBoth: return (context.teachers[0].scale, context.teachers)
    case .fixedTau:
      let scale = S(1 / switches.tau)
      return (scale, context.teachers.scaled(scale))
    }
  }

  /// A modality that is used.
  private struct Part {
    let path: WritableKeyPath<Modalities<Double>, Double>
    let name: String
    let mu: Double
    let intra: Intra<S>
    let student: UnitRows<S>
    let teachers: [TeacherStrip<S>]

    init(
      _ path: WritableKeyPath<Modalities<Double>, Double>, _ name: String, _ mu: Double, _ intra: Intra<S>,
      _ student: UnitRows<S>, _ teachers: [TeacherStrip<S>]
    ) {
      (self.path, self.name, self.mu, self.intra) = (path, name, mu, intra)
      (self.student, self.teachers) = (student, teachers)
    }

    /// Returns this modality's one of two values.
    func own<T>(_ both: Modalities<T>) -> T { path == \.image ? both.image : both.text }
  }

  private func weighRows(_ settings: IntraSettings, _ context: LossContext<S>) throws {
    let switches = settings.switches
    let source = settings.weighedBy.first.map { context.term($0) }
    for part in used {
      let found = try IntraWeights(
        source: source?.localLosses.map(part.own) ?? part.intra.divergence, divergence: part.intra.divergence, switches,
        count: context.batch.count,
        context.ranks)
      values[keyPath: part.path] = found.loss
      let factor = settings.weight.wrappedValue * part.mu
      let throughOwn = switches.weightGradient && source == nil
      for (i, w) in found.weights.enumerated() {
        part.intra.factor.own[i] = S(factor * (w + (throughOwn ? found.slopes[i] : 0)))
      }
      anchors.append(try anchors(part, found.weights.map { $0 * Double(context.batch.count) }, context))
      // The weights depend on another term's losses, and so their gradient flows back through that term's rows.
      guard switches.weightGradient, let source else { continue }
      guard let weights = source.weights else { preconditionFailure("the rows of the source have no weights") }
      let vector = part.own(weights)
      for (i, slope) in found.slopes.enumerated() { vector.own[i] += S(factor * slope) }
      try vector.gather(context.ranks)
    }
  }

  private func weighPairs(_ settings: IntraSettings, _ context: LossContext<S>) throws {
    let n = Double(context.batch.count)
    for part in used {
      var sums = [sum(part.intra.pairs.loss), sum(part.intra.pairs.weight)]
      try context.ranks.allReduce(&sums)
      // If student and teacher agree on every pair, there is nothing to weigh.
      let factor = sums[1] == 0 ? 0 : n / sums[1]
      values[keyPath: part.path] = factor * sums[0]
      fill(part.intra.factor.own, S(settings.weight.wrappedValue * part.mu * factor))
      let weights = part.intra.pairs.weight.array.map { Double($0) * factor }
      anchors.append(try anchors(part, weights, context))
    }
  }

  private func weighModalities(_ settings: IntraSettings, _ context: LossContext<S>) throws {
    guard !used.isEmpty else { return }
    let n = Double(context.batch.count)
    var means = used.map { sum($0.intra.divergence) / n }
    try context.ranks.allReduce(&means)
    let total = means.reduce(0, +) + IntraWeights.epsilon
    let loss = zip(used, means).reduce(0) { $0 + $1.0.mu * $1.1 * $1.1 / total }
    for (part, mean) in zip(used, means) {
      values[keyPath: part.path] = mean * mean / total
      let slope = settings.switches.weightGradient ? (2 * part.mu * mean - loss) / total : part.mu * mean / total
      fill(part.intra.factor.own, S(settings.weight.wrappedValue * slope / n))
      let weights = [Double](repeating: mean / total, count: context.batch.rows.count)
      anchors.append(try anchors(part, weights, context))
    }
  }

  /// Returns means and deviations over the global batch. `weights` are multiples of 1/N.
  private func anchors(
    _ part: Part, _ weights: [Double], _ context: LossContext<S>
  ) throws -> ObjectiveReport.Anchors {
    let divergences = part.intra.divergence.array.map { Double($0) }
    let n = Double(context.batch.count)
    var means = [divergences.reduce(0, +) / n, weights.reduce(0, +) / n]
    try context.ranks.allReduce(&means)
    var variances = [
      divergences.reduce(0) { $0 + ($1 - means[0]) * ($1 - means[0]) } / n,
      weights.reduce(0) { $0 + ($1 - means[1]) * ($1 - means[1]) } / n,
    ]
    try context.ranks.allReduce(&variances)
    return ObjectiveReport.Anchors(
      name: part.name, divergenceMean: means[0], divergenceDeviation: variances[0].squareRoot(), weightMean: means[1],
      weightDeviation: variances[1].squareRoot())
  }
}
