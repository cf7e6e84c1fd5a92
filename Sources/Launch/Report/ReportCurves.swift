/// The charts of a report, by section. For one run, figures that belong together share a chart. For several runs, each
/// figure has its own chart with one curve per run.
struct ReportCurves {
  let runs: [ReportedRun]

  /// A figure of a chart, with the figure that holds its standard deviation.
  private struct Key {
    var name: String
    var curve: (RunHistory) -> Curve?
    var deviation: (RunHistory) -> Curve? = { _ in nil }

    init(_ name: String, _ figure: StepTable.Figure, deviation: StepTable.Figure? = nil) {
      self.name = name
      curve = { $0.table[figure] }
      if let deviation { self.deviation = { $0.table[deviation] } }
    }

    init(_ name: String, _ curve: @escaping (RunHistory) -> Curve?) { (self.name, self.curve) = (name, curve) }
  }

  var sections: [(title: String, charts: [Chart])] {
    [
      ("Loss and its terms", loss), ("Optimizer", optimizer), ("Divergence of student and teacher", divergence),
      ("Speed", speed),
    ].filter { !$0.1.isEmpty }
  }

  /// The charts of all evaluations.
  var evaluations: [Chart] {
    names { $0.evaluations.map(\.name) }.flatMap { evaluation in
      let figures = names { $0.curves(of: evaluation).map(\.name) }
      let groups = Dictionary(grouping: figures) { figure in
        figure.contains(" ") ? String(figure.prefix { $0 != " " }) : ""
      }
      return groups.sorted { $0.key < $1.key }.flatMap { group, figures in
        charts(
          group.isEmpty ? evaluation : "\(evaluation): \(EvaluationNames.direction(group))",
          "share of queries",
          figures.map { figure in
            Key(EvaluationNames.short(figure)) { $0.curves(of: evaluation).first { $0.name == figure }?.curve }
          }, form: .share, isFromZero: true)
      }
    }
  }

  private var loss: [Chart] {
    let terms = names { $0.table.names { if case .term(let name) = $0 { name } else { nil } } }
    // A single term of weight 1 is the loss.
    let isTheLoss =
      terms.count == 1
      && runs.allSatisfy { run in
        let history = run.history
        return history.table[.term(terms[0])]?.finite.map(\.value) == history.table[.loss]?.finite.map(\.value)
      }
    var charts = charts(
      "loss", "the weighted sum of its terms, over the global batch", [Key("loss", .loss)], isNoisy: true)
    if !isTheLoss {
      charts += terms.flatMap { self.charts($0, "term, before its weight", [Key($0, .term($0))], isNoisy: true) }
    }
    let weights = terms.filter { term in
      runs.contains { run in
        let values = run.history.table[.termWeight(term)]?.finite.map(\.value) ?? []
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
  }

  private func hasUnitWeights(_ modality: String) -> Bool {
    runs.allSatisfy { run in
      run.history.table[.anchorWeight(modality)]?.finite.allSatisfy { abs($0.value - 1) < 1e-3 } ?? true
    }
  }

  private var speed: [Chart] {
    charts(
      "throughput", "pairs a second, over all ranks", [Key("pairs/s", .samplesPerSecond)], isNoisy: true,
      isFromZero: true)
      + charts(
        "where time goes", "share of a step, of the slowest rank",
        [Key("waiting for data", .dataWait), Key("teacher", .teacherShare)], form: .share, isFromZero: true)
      + (isAlone
        ? []
        : charts(
          "received", "bytes that rank 0 had from others in a step", [Key("bytes", .receivedBytes)], isFromZero: true))
  }

  /// True if rank 0 of no run received anything from other ranks.
  private var isAlone: Bool {
    runs.allSatisfy { $0.history.table[.receivedBytes]?.finite.allSatisfy { $0.value == 0 } ?? true }
  }

  private func charts(
    _ title: String, _ about: String, _ keys: [Key], form: Chart.Form = .number, isNoisy: Bool = false,
    isFromZero: Bool = false
  ) -> [Chart] {
    func lines(_ key: Key, color: (_ run: Int) -> Int, name: (ReportedRun) -> String) -> [Chart.Line] {
      runs.enumerated().compactMap { index, run in
        key.curve(run.history).map {
          Chart.Line(name: name(run), color: color(index), curve: $0, deviation: key.deviation(run.history))
        }
      }
    }
    let charts =
      runs.count == 1
      ? [
        Chart(
          title, about,
          keys.enumerated().flatMap { index, key in lines(key, color: { _ in index }, name: { _ in key.name }) },
          form: form)
      ]
      : keys.map { key in
        Chart(
          keys.count == 1 ? title : "\(title): \(key.name)", about, lines(key, color: { $0 }, name: \.name), form: form)
      }
    return charts.compactMap { chart in
      guard var chart else { return nil }
      (chart.isNoisy, chart.isFromZero, chart.hasSeveralRuns) = (isNoisy, isFromZero, runs.count > 1)
      return chart
    }
  }

  /// The names of all runs, each once, in the order in which they first come.
  private func names(_ of: (RunHistory) -> [String]) -> [String] {
    var seen: Set<String> = []
    return runs.flatMap { of($0.history) }.filter { seen.insert($0).inserted }
  }
}
