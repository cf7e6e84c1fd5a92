/// The charts of a report: for one run, related figures share a chart; for several, each figure has its own.
struct ReportCurves {
  let runs: [ReportedRun]

  /// A figure of a chart, with the figure that holds its standard deviation.
  private struct Key {
    var name: String
    var curve: (RunHistory) -> Curve?
    var deviation: (RunHistory) -> Curve? = { _ in nil }
    var best: (RunHistory) -> LogEvent.Best? = { _ in nil }

    init(_ name: String, _ figure: StepTable.Figure, deviation: StepTable.Figure? = nil) {
      self.name = name
      curve = { $0.table[figure] }
      if let deviation { self.deviation = { $0.table[deviation] } }
    }

    init(_ name: String, metric: String? = nil, _ curve: @escaping (RunHistory) -> Curve?) {
      (self.name, self.curve) = (name, curve)
      if let metric { best = { $0.best?.metric == metric ? $0.best : nil } }
    }
  }

  var sections: [(title: String, charts: [Chart])] {
    [
      ("Loss and its terms", loss), ("Optimizer", optimizer), ("Divergence of student and teacher", divergence),
      ("Speed", speed),
    ].filter { !$0.1.isEmpty }
  }

  var evaluations: [Chart] {
    names { $0.evaluations.map(\.name) }.flatMap { evaluation in
      let figures = names { $0.curves(of: evaluation).map(\.name) }
      let groups = Dictionary(grouping: figures) { figure in
        figure.contains(" ") ? String(figure.prefix { $0 != " " }) : ""
      }
      return groups.sorted { $0.key < $1.key }.flatMap { group, figures in
        let form = EvaluationNames.form(of: figures[0])
        let shares =
          figures.contains("\(group) MRR") ? "share of queries; MRR: mean reciprocal rank" : "share of queries"
        return charts(
          group.isEmpty ? evaluation : "\(evaluation): \(EvaluationNames.direction(group))",
          form == .share ? shares : "the objective over a held-out dataset",
          figures.map { figure in
            Key(EvaluationNames.short(figure), metric: "\(evaluation)/\(figure)") {
              $0.curves(of: evaluation).first { $0.name == figure }?.curve
            }
          }, form: form, isFromZero: form == .share)
      }
    }
  }

  private var loss: [Chart] {
    let terms = names { $0.table.names { if case .term(let name) = $0 { name } else { nil } } }
    // A single term of weight 1 is the loss.
    let isTheLoss =
      terms.count == 1
      && runs.map(\.history.table).allSatisfy { table in
        table[.term(terms[0])]?.finite.map(\.value) == table[.loss]?.finite.map(\.value)
      }
    let about = "the weighted sum of its terms, over the global batch"
    var charts = charts("loss", about, [Key("loss", .loss)], isNoisy: true)
    let shown = isTheLoss ? [] : terms
    charts += shown.flatMap { self.charts($0, "term, before its weight", [Key($0, .term($0))], isNoisy: true) }
    // Not every line has them, and the lines between two measurements are no gaps.
    let measured = names { $0.table.names { if case .termGradient(let name) = $0 { name } else { nil } } }
    charts += self.charts(
      "gradients of the terms", "norm over the batch, weighted, with respect to the student's unit embeddings",
      measured.map { name in Key(name) { $0.table[.termGradient(name)]?.measured } }, isNoisy: true)
    let weights = terms.filter { term in
      runs.contains { run in
        let values = run.history.values(.termWeight(term))
        return values.min() != values.max()
      }
    }
    return charts + weights.flatMap { self.charts("weight of \($0)", "as scheduled", [Key($0, .termWeight($0))]) }
  }

  private var optimizer: [Chart] {
    charts("learning rate", "of the optimizer's step", [Key("rate", .rate)], isFromZero: true)
      + charts("logit scale", "exp of the learned scale, after the step", [Key("scale", .logitScale)])
      + charts("gradient norm", "of the whole gradient, before clipping", [Key("norm", .gradientNorm)], isNoisy: true)
      + charts(
        "sparsity", "of the masks of a model that is being pruned",
        [Key("expected", .prunedExpected), Key("target", .prunedTarget)], form: .share, isFromZero: true)
  }

  private var divergence: [Chart] {
    let modalities = names { $0.table.names { if case .divergence(let name) = $0 { name } else { nil } } }
    return charts(
      "divergence", "of anchors, mean and standard deviation",
      modalities.map { Key($0, .divergence($0), deviation: .divergenceDeviation($0)) })
      + charts(
        "mean anchor weight", "in multiples of 1/N",
        // Weights are normalised to a mean of 1 unless the run says otherwise, and a constant 1 needs no chart.
        modalities.filter { !hasUnitWeights($0) }.map { Key($0, .anchorWeight($0)) })
      + charts(
        "spread of anchor weights", "standard deviation, in multiples of 1/N",
        modalities.map { Key($0, .anchorWeightDeviation($0)) }, isFromZero: true)
      + charts("scale of anchors", "learned for each modality", modalities.map { Key($0, .anchorScale($0)) })
  }

  private func hasUnitWeights(_ modality: String) -> Bool {
    runs.allSatisfy { $0.history.values(.anchorWeight(modality)).allSatisfy { abs($0 - 1) < 1e-3 } }
  }

  private var speed: [Chart] {
    // Rank 0 of a job of one rank receives nothing.
    let isAlone = runs.allSatisfy { $0.history.values(.receivedBytes).allSatisfy { $0 == 0 } }
    let time = charts(
      "where time goes", "share of a step, of the slowest rank",
      [Key("waiting for data", .dataWait), Key("teacher", .teacherShare)], form: .share, isFromZero: true)
    let bytes = [Key("bytes", .receivedBytes)]
    return charts(
      "throughput", "pairs a second, over all ranks", [Key("pairs/s", .samplesPerSecond)], isNoisy: true,
      isFromZero: true) + time
      + (isAlone ? [] : charts("received", "bytes that rank 0 had from others in a step", bytes, isFromZero: true))
  }

  private func charts(
    _ title: String, _ about: String, _ keys: [Key], form: Chart.Form = .number, isNoisy: Bool = false,
    isFromZero: Bool = false
  ) -> [Chart] {
    func chart(_ title: String, _ lines: [Chart.Line?]) -> Chart? {
      guard var chart = Chart(title, about, lines.compactMap { $0 }, form: form) else { return nil }
      (chart.isNoisy, chart.isFromZero, chart.hasSeveralRuns) = (isNoisy, isFromZero, runs.count > 1)
      return chart
    }
    func line(_ key: Key, _ history: RunHistory, _ name: String, _ color: Int) -> Chart.Line? {
      key.curve(history).map {
        Chart.Line(name: name, color: color, curve: $0, deviation: key.deviation(history), best: key.best(history))
      }
    }
    if runs.count == 1 {
      return [chart(title, keys.enumerated().map { line($1, runs[0].history, $1.name, $0) })].compactMap { $0 }
    }
    return keys.compactMap { key in
      let title = keys.count == 1 ? title : "\(title): \(key.name)"
      return chart(title, runs.enumerated().map { line(key, $1.history, $1.name, $0) })
    }
  }

  /// The names of all runs, each once, in the order in which they first come.
  private func names(_ of: (RunHistory) -> [String]) -> [String] {
    var seen: Set<String> = []
    return runs.flatMap { of($0.history) }.filter { seen.insert($0).inserted }
  }
}
