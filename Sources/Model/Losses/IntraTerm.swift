internal import Tensor

/// The intra-modal term: both modalities' divergences, their weights, and the gradient.
///
/// L = μ_I Σ_i w^I_i D^I_i + μ_T Σ_i w^T_i D^T_i; with weights of a modality, w_m = D̄_m / (D̄_I + D̄_T) on the means of the
/// modalities that are used, L = μ_I w_I D̄_I + μ_T w_T D̄_T.
final class IntraTerm<S: Scalar> {
  private let parts: Modalities<Intra<S>>

  /// What the term came to on this rank.
  struct Outcome {
    /// Of each modality, before μ; the same on every rank.
    var values = Modalities(image: 0.0, text: 0.0)
    /// This rank's share of weight · ∂L/∂(student scale).
    var slope = 0.0
    /// weight · ∂L/∂a_i of own anchors, where weights carry gradient to a source that is not D itself.
    var sources: Modalities<[Double]>?
    var anchors: [ObjectiveReport.Anchors] = []
  }

  init(_ tiles: Tiles<S>) { parts = Modalities(image: Intra(tiles), text: Intra(tiles)) }

  /// Adds weight · ∂L to this rank's rows. `sources` are the a of own anchors; nil for D itself.
  func accumulate(
    _ student: Modalities<UnitRows<S>>, scale: S, _ teachers: [Taught<S>], _ options: IntraOptions, weight: Double,
    sources: Modalities<Tensor<S>>?, _ share: BatchShare, _ ranks: some Ranks<S>
  ) throws -> Outcome {
    var outcome = Outcome()
    var used: [Part] = []
    if options.image != 0 {
      used.append(
        Part(\.image, "image", options.image, parts.image, student.image, teachers.map(\.within.image), sources?.image))
    }
    if options.text != 0 {
      used.append(
        Part(\.text, "text", options.text, parts.text, student.text, teachers.map(\.within.text), sources?.text))
    }
    for part in used { part.intra.measure(part.student, scale: scale, part.teachers, options, share) }
    switch options.granularity {
    case .row: try weighRows(used, options, weight, share, ranks, &outcome)
    case .pair: try weighPairs(used, weight, share, ranks, &outcome)
    case .modality: try weighModalities(used, options, weight, share, ranks, &outcome)
    }
    for part in used { outcome.slope += try part.intra.accumulate(part.student, scale: scale, ranks) }
    return outcome
  }

  /// One modality that is used.
  private struct Part {
    let path: WritableKeyPath<Modalities<Double>, Double>
    let name: String
    let mu: Double
    let intra: Intra<S>
    let student: UnitRows<S>
    let teachers: [TeacherStrip<S>]
    let source: Tensor<S>?

    init(
      _ path: WritableKeyPath<Modalities<Double>, Double>, _ name: String, _ mu: Double, _ intra: Intra<S>,
      _ student: UnitRows<S>, _ teachers: [TeacherStrip<S>], _ source: Tensor<S>?
    ) {
      (self.path, self.name, self.mu, self.intra) = (path, name, mu, intra)
      (self.student, self.teachers, self.source) = (student, teachers, source)
    }
  }

  private func weighRows(
    _ used: [Part], _ options: IntraOptions, _ weight: Double, _ share: BatchShare, _ ranks: some Ranks<S>,
    _ outcome: inout Outcome
  ) throws {
    var slopes = Modalities(image: [Double](), text: [Double]())
    for part in used {
      let found = try IntraWeights(
        source: part.source ?? part.intra.divergence, divergence: part.intra.divergence, options, count: share.count,
        ranks)
      outcome.values[keyPath: part.path] = found.loss
      let factor = weight * part.mu
      let throughOwn = options.weightGradient && part.source == nil
      for (i, w) in found.weights.enumerated() {
        part.intra.factor.own[i] = S(factor * (w + (throughOwn ? found.slopes[i] : 0)))
      }
      if part.path == \.image { slopes.image = found.slopes.map { factor * $0 } }
      if part.path == \.text { slopes.text = found.slopes.map { factor * $0 } }
      outcome.anchors.append(try anchors(part, found.weights.map { $0 * Double(share.count) }, share, ranks))
    }
    if options.weightGradient && used.contains(where: { $0.source != nil }) { outcome.sources = slopes }
  }

  private func weighPairs(
    _ used: [Part], _ weight: Double, _ share: BatchShare, _ ranks: some Ranks<S>, _ outcome: inout Outcome
  ) throws {
    let n = Double(share.count)
    for part in used {
      var sums = [sum(part.intra.pairs.loss), sum(part.intra.pairs.weight)]
      try ranks.sum(&sums)
      // Nothing to weigh where student and teacher agree on every pair.
      let share1 = sums[1] == 0 ? 0 : n / sums[1]
      outcome.values[keyPath: part.path] = share1 * sums[0]
      fill(part.intra.factor.own, S(weight * part.mu * share1))
      let weights = part.intra.pairs.weight.array.map { Double($0) * share1 }
      outcome.anchors.append(try anchors(part, weights, share, ranks))
    }
  }

  private func weighModalities(
    _ used: [Part], _ options: IntraOptions, _ weight: Double, _ share: BatchShare, _ ranks: some Ranks<S>,
    _ outcome: inout Outcome
  ) throws {
    let n = Double(share.count)
    var means = used.map { sum($0.intra.divergence) / n }
    try ranks.sum(&means)
    let total = means.reduce(0, +) + IntraWeights.epsilon
    let loss = zip(used, means).reduce(0) { $0 + $1.0.mu * $1.1 * $1.1 / total }
    for (part, mean) in zip(used, means) {
      outcome.values[keyPath: part.path] = mean * mean / total
      let slope = options.weightGradient ? (2 * part.mu * mean - loss) / total : part.mu * mean / total
      fill(part.intra.factor.own, S(weight * slope / n))
      let weights = [Double](repeating: mean / total, count: share.rows.count)
      outcome.anchors.append(try anchors(part, weights, share, ranks))
    }
  }

  /// Means and deviations over the global batch, of weights in multiples of 1/N.
  private func anchors(
    _ part: Part, _ weights: [Double], _ share: BatchShare, _ ranks: some Ranks<S>
  ) throws -> ObjectiveReport.Anchors {
    let divergences = part.intra.divergence.array.map { Double($0) }
    let n = Double(share.count)
    var means = [divergences.reduce(0, +) / n, weights.reduce(0, +) / n]
    try ranks.sum(&means)
    var variances = [
      divergences.reduce(0) { $0 + ($1 - means[0]) * ($1 - means[0]) } / n,
      weights.reduce(0) { $0 + ($1 - means[1]) * ($1 - means[1]) } / n,
    ]
    try ranks.sum(&variances)
    return ObjectiveReport.Anchors(
      name: part.name, divergenceMean: means[0], divergenceDeviation: variances[0].squareRoot(), weightMean: means[1],
      weightDeviation: variances[1].squareRoot())
  }
}
