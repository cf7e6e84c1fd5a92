import Dist
import Model
import Tensor

/// The evaluations during a run, opened before the first step: a wrong path must not end the run hours later.
struct TrainingEvaluations {
  /// An evaluation of embeddings, or of the run's own objective.
  private enum Item {
    case figures(any Evaluation)
    case loss(HeldOutLoss)

    var dataset: Dataset {
      switch self {
      case .figures(let evaluation): evaluation.dataset
      case .loss(let loss): loss.dataset
      }
    }

    /// The metrics by the names that the log has, for the weights or their moving average.
    func metrics(averaged: Bool) -> [Metric] {
      let (title, names, isLoss) =
        switch self {
        case .figures(let evaluation): (evaluation.title, evaluation.names, false)
        case .loss(let loss): (loss.title, [HeldOutLoss.figure], true)
        }
      let evaluation = title + (averaged ? " ema" : "")
      return names.map { Metric(evaluation: evaluation, figure: $0, lowerIsBetter: isLoss) }
    }
  }

  private let items: [Item]
  private let image: ImageOptions
  private let tokenizer: BytePairTokenizer
  /// The metric by which the run keeps its best checkpoint, if it does.
  let metric: Metric?

  var datasets: [Dataset] { items.map(\.dataset) }
  /// The names of the retrieval evaluations, with a bound on the images and captions that each ranks.
  var retrievals: [RunPreview.Retrieval] {
    items.compactMap { item in
      guard case .figures(let evaluation) = item, let retrieval = evaluation as? RetrievalEvaluation else { return nil }
      let (images, captions) = (retrieval.dataset.count, retrieval.dataset.index.totals.captions)
      return .init(
        name: retrieval.title, images: images,
        captions: retrieval.captions == .first ? min(images, captions) : captions)
    }
  }
  /// The header's lines about them.
  var notes: [String] {
    items.compactMap { item -> String? in
      guard case .loss(let loss) = item else { return nil }
      return loss.text
    }
  }

  /// Every rank must call it. A `teacher` that computes its embeddings during the run also does for held-out losses.
  init(
    _ run: RunConfig, _ vision: VisionConfig, tokenizer: BytePairTokenizer, teacher: TeacherModel?, checking: Bool,
    over ranks: Communicator
  ) throws {
    image = run.image.sized(vision.imageSize)
    self.tokenizer = tokenizer
    let items = try run.evaluate.evaluations.map { config -> Item in
      let dataset = try Dataset.open(config.dataset, over: ranks)
      switch config.kind {
      case .retrieval:
        let duplicates = config.duplicates ?? .hits
        return .figures(
          RetrievalEvaluation(
            dataset: dataset, candidates: duplicates == .hits ? .distinctCaptions : .captions,
            captions: config.captions ?? .all, duplicates: duplicates))
      case .zeroShot:
        return .figures(
          try ZeroShotEvaluation(
            dataset: dataset, classes: config.classes, templates: config.templates, subset: config.subset, over: ranks))
      case .loss:
        return .loss(
          try HeldOutLoss(
            dataset, run.heldOut(config.dataset), vision, tokenizer: tokenizer, teacher: teacher, checking: checking,
            over: ranks))
      }
    }
    self.items = items
    let metrics = run.evaluatedAverages.flatMap { averaged in items.flatMap { $0.metrics(averaged: averaged) } }
    metric = try run.evaluate.keepBest.map { try Metric(named: $0, among: metrics) }
  }

  /// Runs and logs all evaluations after `done` steps, and returns the figures by their metrics' names. Every rank must
  /// call it. Throws `StopRequest.Interruption` if the run is to stop.
  func run(
    _ step: Step<Float>, _ objective: ObjectiveOptions, teacher: (any TeacherSource)?, loaders: Int, averaged: Bool,
    at done: Int, _ log: RunLog
  ) throws -> [String: Double] {
    let ranks = step.communicator
    let embedder = CLIPEmbedder(model: step.model, image: image, tokenizer: tokenizer)
    let pause = { try StopRequest.check(over: ranks) }
    var found: [String: Double] = [:]
    for item in items {
      let values =
        switch item {
        case .figures(let evaluation): try evaluation.run(embedder, over: ranks, pause: pause).values
        case .loss(let loss): [try loss.run(step, objective, teacher: teacher, loaders: loaders, pause: pause)]
        }
      let figures = zip(item.metrics(averaged: averaged), values).map { (metric: $0, value: $1) }
      guard let evaluation = figures.first?.metric.evaluation else { continue }
      try log.record(evaluation: evaluation, at: done, figures.map { ($0.metric.figure, $0.value) })
      for (metric, value) in figures { found[metric.name] = value }
    }
    return found
  }
}

/// The run's own objective over a held-out dataset, in whole global batches: each image with one caption (with
/// `data.captions: all`, with every one), in a central crop, and always in the same batches. A last incomplete batch is
/// left out; a dataset smaller than a global batch is one batch.
struct HeldOutLoss {
  static let figure = "loss"
  let dataset: Dataset
  private let data: TrainingData
  /// The teacher's embeddings of this dataset; nil if the teacher computes them, or if there is none.
  private let cached: CachedTeacher?
  private let ensemble: Ensemble
  var title: String { "loss \(dataset.name)" }

  /// Takes what `RunConfig.heldOut` returns. Every rank must call it.
  init(
    _ dataset: Dataset, _ run: RunConfig, _ vision: VisionConfig, tokenizer: BytePairTokenizer,
    teacher: TeacherModel?, checking: Bool, over ranks: Communicator
  ) throws {
    self.dataset = dataset
    guard dataset.count >= 2 else {
      throw UserError("the held-out dataset \(dataset.name) has fewer than 2 images; a pair is compared with others")
    }
    var run = run
    run.batch.global = min(run.batch.global, dataset.count)
    let teacher = teacher?.seeing(run.image)
    data = try TrainingData(
      run, vision, tokenizer: tokenizer, teacher: run.teacher?.cache == nil ? teacher?.input : nil,
      over: ranks)
    cached = try CachedTeacher(teacher, run, [dataset], checking: checking, over: ranks)
    ensemble = try Ensemble(run, [dataset], checking: checking, over: ranks)
  }

  var text: String {
    let (batches, batch) = (data.sampler.stepsPerEpoch, data.sampler.batch)
    let rest = dataset.count - batches * batch
    return "\(title): the objective over \(Figures.count(batches, "batch", "batches")) of \(batch) pairs"
      + (rest == 0 ? "" : ", without the last \(rest)")
  }

  /// Returns the mean of the objective over the batches, the same on every rank. Every rank must call it.
  func run(
    _ step: Step<Float>, _ objective: ObjectiveOptions, teacher: (any TeacherSource)?, loaders: Int,
    pause: () throws -> Void
  ) throws -> Double {
    let (batches, count) = (data.sampler.stepsPerEpoch, data.sampler.batch)
    let rows = step.communicator.slice(of: count)
    let source: (any TeacherSource)? = cached ?? teacher
    let loader = data.loader(steps: 0..<batches, rows: rows, workers: loaders)
    (step.objective.options, step.objective.measuresTermGradients) = (objective, false)
    var sum = 0.0
    while let batch = try loader.next() {
      defer { loader.recycle(batch) }
      try pause()
      if let source { try ensemble.embed(batch, first: source, rows, of: count, into: step.losses) }
      sum += try step.evaluate(
        StepBatch(
          images: batch.student.images, captions: batch.student.captions, captionsPerImage: batch.captionsPerImage,
          rows: rows, count: count, teacherScale: source?.scale))
    }
    return sum / Double(batches)
  }
}

extension RunConfig {
  /// The run with the held-out dataset at `path` in place of its own, each of whose images always looks the same. The
  /// teachers' embeddings of it are in the folder `evaluation` of their caches.
  func heldOut(_ path: String) -> RunConfig {
    var run = self
    run.data.datasets = [DatasetConfig(path: path)]
    (run.data.wrap, run.data.prefetch) = (false, 1)
    (run.image.crop, run.image.colorJitter, run.image.grayscale) = (.center, ColorJitter(), 0)
    run.teacher?.cache?.path += "/evaluation"
    for index in run.teacher?.ensemble.indices ?? 0..<0 {
      run.teacher?.ensemble[index].teacher.cache?.path += "/evaluation"
    }
    return run
  }
}
