import Dist
import Model

/// What the run file wants measured while the run goes on; datasets and files are opened before the first step, so that
/// a wrong path does not end a run hours later.
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

  /// What an evaluation is called in the log: one dataset may be evaluated by several protocols.
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

  /// Every rank must call it; the figures are the same on any number of them. A request to stop ends it between two
  /// blocks, by `StopRequest.Interruption`.
  func run(_ model: CLIP<Float>, averaged: Bool, at step: Int, over ranks: Communicator, _ log: RunLog) throws {
    // Another title: both may stand in the log.
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
