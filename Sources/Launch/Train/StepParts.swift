import Dist
import Foundation
import Model
import Settings
import Tensor

/// The forward and backward passes of both towers over this rank's pairs, at most `microBatchSize` at a time. The loss
/// needs the features of the whole batch: with several micro-batches, all features are first computed without keeping
/// activations, and backward runs each forward again.
final class TowerPass<S: Scalar> {
  let model: CLIP<S>
  let frozen: Frozen
  private let microBatchSize: Int
  private let communicator: Communicator
  private let features = (image: Buffer<S>(), text: Buffer<S>())

  init(_ model: CLIP<S>, frozen: Frozen, microBatchSize: Int?, over communicator: Communicator) {
    (self.model, self.frozen, self.communicator) = (model, frozen, communicator)
    self.microBatchSize = microBatchSize ?? Int.max
  }

  /// Cuts `own` of `count` pairs into as many micro-batches as all ranks have: batch norm meets in each.
  private func microBatches(_ own: Int, of count: Int) -> [Range<Int>] {
    let most = communicator.slices(of: count).map(\.count).max() ?? 0
    let pieces = max((most - 1) / microBatchSize + 1, 1)
    return (0..<pieces).map { $0 * own / pieces..<($0 + 1) * own / pieces }
  }

  /// Allocates the text tower's memory for `rows` of `count` pairs with captions like these: later steps allocate
  /// nothing.
  func reserve(_ captions: CaptionSample, rows: Int, of count: Int) {
    let pieces = microBatches(rows, of: count)
    guard let images = pieces.map(\.count).max(), images > 0, captions.longest > 0 else { return }
    let held = images * captions.perImage
    for mode: ForwardMode in frozen.text ? [.evaluation] : pieces.count == 1 ? [.training] : [.noGrad, .training] {
      model.text.reserve(captions: held, tokens: captions.tokens(of: held), longest: captions.longest, mode: mode)
    }
  }

  private func forwardImages(_ batch: StepBatch<S>, _ rows: Range<Int>, mode: ForwardMode) -> Tensor<S> {
    let (t, mode) = (model.config.vision.trainedTokens, frozen.image ? .evaluation : mode)
    let kept = mode == .evaluation ? nil : batch.kept.map { $0[rows.lowerBound * t..<rows.upperBound * t] }
    return model.visual.forward(batch.images.samples(rows), kept: kept, mode: mode, observe: nil)
  }

  /// Returns the raw features [b, e] of all pairs; unless `isTraining`, with both towers in evaluation mode.
  func forward(_ batch: StepBatch<S>, isTraining: Bool = true) -> (image: Tensor<S>, text: Tensor<S>) {
    let pieces = microBatches(batch.rows.count, of: batch.count)
    if pieces.count == 1 {
      return (
        forwardImages(batch, pieces[0], mode: isTraining ? .training : .evaluation),
        model.text.forward(batch.captions, mode: isTraining && !frozen.text ? .training : .evaluation)
      )
    }
    let e = model.config.embedding
    let image = features.image.tensor(Shape(batch.rows.count, e))
    let text = features.text.tensor(Shape(batch.captions.count, e))
    for piece in pieces {
      let captions = batch.captions(of: piece)
      copy(forwardImages(batch, piece, mode: isTraining ? .noGrad : .evaluation), into: image.rows(piece))
      copy(model.text.forward(batch.captions[captions], mode: .evaluation), into: text.rows(captions))
    }
    return (image, text)
  }

  /// Adds the gradients of the towers that are trained, given those of the raw features. `lastBegins` is called before
  /// the last micro-batch, from which on a stage's gradients are complete once its backward is over.
  func backward(_ batch: StepBatch<S>, _ gradients: (image: Tensor<S>, text: Tensor<S>), lastBegins: () -> Void) {
    let pieces = microBatches(batch.rows.count, of: batch.count)
    for (index, piece) in pieces.enumerated() {
      if index == pieces.count - 1 { lastBegins() }
      if !frozen.text {
        let captions = batch.captions(of: piece)
        if pieces.count > 1 { _ = model.text.forward(batch.captions[captions], mode: .training) }
        model.text.backward(gradients.text.rows(captions))
      }
      if !frozen.image {
        if pieces.count > 1 { _ = forwardImages(batch, piece, mode: .training) }
        model.visual.backward(gradients.image.rows(piece))
      }
    }
  }
}

/// The additional work of a step beside towers, loss and optimizer: the bounds of the logit scale, the masks of a model
/// that is being pruned, batch norm's running statistics, and the moving average. The methods' names say when they run.
final class StepHooks<S: Scalar> {
  var pruning: MaskTraining<S>?
  let average: WeightAverage<S>?
  private let model: CLIP<S>
  private let objective: Objective<S>
  private let sync: GradientSync<S>
  private let frozen: Frozen
  /// The masks' gradients of the step that is under way, summed over the ranks.
  private var maskGradients: [Double] = []
  init(_ model: CLIP<S>, _ objective: Objective<S>, _ sync: GradientSync<S>, frozen: Frozen, average: WeightAverage<S>?)
  { (self.model, self.objective, self.sync, self.frozen, self.average) = (model, objective, sync, frozen, average) }

  /// False while weights are masked: their gradients are complete only once the masks are removed.
  var gradientsLeaveEarly: Bool { pruning == nil }

  /// Before the forward pass: clamps the logit scale and applies the masks, which cover all weights together.
  func willForward() throws {
    holdLogitScale()
    guard let pruning else { return }
    try sync.waitForParameters()
    pruning.apply()
  }

  /// After the loss: a fixed logit scale learns nothing.
  func didComputeLoss() { if objective.options.fixedLogitScale != nil { fill(model.logitScale.gradient, 0) } }

  /// After backward: removes the masks and sums their gradients over the ranks.
  func didBackward() throws {
    guard let pruning else { return }
    maskGradients = pruning.remove()
    try sync.communicator.allReduce(&maskGradients)
  }

  /// In place of the update, if the loss or the gradient is not finite: forgets the batch's statistics.
  func didFail() { model.visual.dropStatistics() }

  /// Before the update of a sound step: takes rank 0's running statistics, and moves the masks, whose term is reported.
  func willUpdate(_ report: inout ObjectiveReport) throws -> MaskReport? {
    try model.visual.moveStatistics()
    if sync.communicator.size > 1, model.parameters.bufferValues.count > 0 {
      try sync.communicator.broadcast(model.parameters.bufferValues, root: 0)
    }
    guard let pruning else { return nil }
    let masks = pruning.update(maskGradients)
    report.terms.append(ObjectiveReport.Term(name: "sparsity", weight: 1, value: masks.term))
    report.total += masks.term
    return masks
  }

  /// After the optimizer's step `steps`: moves the average, and returns whether the logit scale was held.
  func didUpdate(after steps: Int) -> Bool {
    let clamped = holdLogitScale()
    average?.update(after: steps)
    return clamped
  }

  /// Clamps the logit scale and returns whether it had to be moved, or sets the fixed value. A frozen scale stays.
  @discardableResult private func holdLogitScale() -> Bool {
    if frozen.logitScale { return false }
    guard let fixed = objective.options.fixedLogitScale?.wrappedValue else { return model.clampLogitScale() }
    fill(model.logitScale.value, S(log(fixed)))
    return false
  }
}
