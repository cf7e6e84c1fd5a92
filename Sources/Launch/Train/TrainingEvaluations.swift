import Dist
import Model

/// The evaluations during a run. Datasets and files are opened before the first step, so that a wrong path does not end
/// the run hours later.
struct TrainingEvaluations {
  private enum Evaluation {
    case retrieval(RetrievalEvaluation)
    case zeroShot(ZeroShotEvaluation)
  }

  private let evaluations: [Evaluation]
  private let image: ImageOptions
  private let tokenizer: BytePairTokenizer

  init(_ run: RunConfig, imageSize: Int, tokenizer: BytePairTokenizer) throws {
    image = run.image.sized(imageSize)
    self.tokenizer = tokenizer
    evaluations = try run.evaluate.evaluations.map { config in
      let dataset = try Dataset.open(config.dataset)
      return switch config.kind {
      case .retrieval: .retrieval(Self.retrieval(dataset, config))
      case .zeroShot:
        .zeroShot(
          try ZeroShotEvaluation(
            dataset: dataset, classes: config.classes, templates: config.templates, subset: config.subset))
      }
    }
  }

  private static func retrieval(_ dataset: Dataset, _ config: EvaluationConfig) -> RetrievalEvaluation {
    let duplicates = config.duplicates ?? .hits
    return RetrievalEvaluation(
      dataset: dataset, candidates: duplicates == .hits ? .distinctCaptions : .captions,
      captions: config.captions ?? .all, duplicates: duplicates)
  }

  /// Returns the name in the log, which includes the protocol, because a dataset may be evaluated by several.
  private static func title(_ figures: RetrievalFigures) -> String {
    [
      "retrieval", figures.dataset, figures.captionsTaken == .first ? "first" : "",
      figures.duplicates == .strict ? "strict" : "",
    ]
    .filter { !$0.isEmpty }.joined(separator: " ")
  }

  private static func title(_ figures: ZeroShotFigures) -> String {
    let among = figures.classes == figures.ofClasses ? "" : " among \(figures.classes)"
    return "zero-shot \(figures.dataset)\(among)"
  }

  /// Runs all evaluations and logs their figures, which are the same on any number of ranks. Every rank must call it.
  ///
  /// - Throws: `StopRequest.Interruption` if the run is to stop meanwhile.
  func run(_ model: CLIP<Float>, averaged: Bool, at step: Int, over ranks: Communicator, _ log: RunLog) throws {
    // Both the model and its average may be in the log.
    let suffix = averaged ? " ema" : ""
    let embedder = CLIPEmbedder(model, image: image, tokenizer: tokenizer)
    let pause = { try StopRequest.check(over: ranks) }
    for evaluation in evaluations {
      switch evaluation {
      case .retrieval(let retrieval):
        let figures = try retrieval.run(embedder, over: ranks, pause: pause)
        try log.record(
          evaluation: Self.title(figures) + suffix, at: step,
          [
            ("i2t R@1", figures.imageToText.recall1), ("i2t R@5", figures.imageToText.recall5),
            ("i2t R@10", figures.imageToText.recall10), ("t2i R@1", figures.textToImage.recall1),
            ("t2i R@5", figures.textToImage.recall5), ("t2i R@10", figures.textToImage.recall10),
          ])
      case .zeroShot(let zeroShot):
        let figures = try zeroShot.run(embedder, over: ranks, pause: pause)
        try log.record(
          evaluation: Self.title(figures) + suffix, at: step, [("top-1", figures.top1), ("top-5", figures.top5)])
      }
    }
  }
}
