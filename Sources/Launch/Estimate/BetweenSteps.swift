import Dist
import Model
import Tensor

/// What a run does between its steps: rounds of evaluation, and checkpoints.
struct BetweenSteps {
  /// The images and the captions that a round of evaluation encodes, and the similarities that it computes.
  var images = 0.0
  var captions = 0.0
  var similarities = 0.0
  /// The number of steps in the run.
  let steps: Int
  /// The bytes per second that all ranks together write to the file system.
  let storage: Double

  /// Counts the evaluations whose datasets are on this machine; the others are left out. Of zero-shot classification
  /// only the images count, because names and prompts are few.
  init(_ run: RunConfig, steps: Int, storage: Double) {
    (self.steps, self.storage) = (steps, storage)
    for evaluation in run.evaluate.evaluations {
      guard let totals = (try? Dataset.open(evaluation.dataset))?.index.totals else { continue }
      images += Double(totals.samples)
      guard evaluation.kind != .zeroShot else { continue }
      let count = evaluation.captions == .first || evaluation.kind == .loss ? totals.samples : totals.captions
      captions += Double(count)
      if evaluation.kind == .retrieval { similarities += Double(totals.samples) * Double(count) }
    }
  }

  /// Returns the seconds of a round of evaluation over the steps between two of them. Images and captions are encoded
  /// in blocks, of which a rank has at least one, and every rank receives all embeddings.
  func evaluationSeconds(_ shape: RunShape, _ cost: ClusterCost, _ rates: ProductRates) -> Double {
    guard images > 0 else { return 0 }
    let (config, ranks) = (shape.config, Double(cost.ranks))
    let image = config.vision.forwardOperations(embedding: config.embedding)
    let tokens = shape.captions?.mean ?? Double(config.text.contextLength)
    let caption = config.forwardOperations(tokens: tokens) - image
    func mostOfARank(_ count: Double) -> Double { max(count / ranks, min(count, Double(BlockEncoder.height))) }
    let precision = shape.run.precision.used
    let encoding =
      (mostOfARank(images) * image + mostOfARank(captions) * caption)
      / (StepTime.efficiency(precision) * rates[precision])
    let comparing =
      2 * Double(config.embedding) * similarities / ranks / (StepTime.efficiency(.fp32) * rates[.fp32])
    let gathering = cost.scatterOrGather(4 * Double(config.embedding) * (images + captions))
    return (encoding + comparing + gathering) / Double(max(min(shape.run.evaluate.every ?? steps, steps), 1))
  }

  /// Returns the seconds for which a checkpoint stops the run, over the steps between two of them. In the background
  /// these are the copy, and what of the write is not done when the next one is due.
  /// - Parameter step: the seconds of a step.
  func checkpointSeconds(_ shape: RunShape, ranks: Int, step: Double) -> Double {
    let config = shape.run.checkpoint
    let bytes = Double(BackgroundCheckpoints.bytes(of: shape.parameters.count, averaged: shape.run.ema != nil))
    let writing = bytes / storage
    let byTime = config.minutes.map { 60 * $0 / step } ?? Double(steps)
    let between = max(min(Double(config.every ?? steps), byTime, Double(steps)), 1)
    // A copy is read and written.
    let copying = 2 * bytes / Double(ranks) / StepTime.memoryRate
    let stopped = config.background ? copying + max(writing - between * step, 0) : writing
    return stopped / between
  }
}
