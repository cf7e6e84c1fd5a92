import Dist
import Foundation
import Model
import Settings
import Tensor

/// The additional work of a step beside towers, loss and optimizer: the bounds of the logit scale, the masks of a model
/// that is being pruned, batch norm's running statistics, and the moving average. The methods' names say when they run.
final class StepHooks<S: Scalar> {
  /// Masks that are learned beside the weights until the model is cut.
  var pruning: MaskTraining<S>?
  /// The moving average of the slices that this rank owns, if one is kept.
  let average: WeightAverage<S>?

  private let model: CLIP<S>
  private let objective: Objective<S>
  private let sync: GradientSync<S>
  private let frozen: Frozen
  /// The masks' gradients of the step that is under way, summed over the ranks.
  private var maskGradients: [Double] = []

  init(
    _ model: CLIP<S>, _ objective: Objective<S>, _ sync: GradientSync<S>, frozen: Frozen, average: WeightAverage<S>?
  ) {
    (self.model, self.objective, self.sync) = (model, objective, sync)
    (self.frozen, self.average) = (frozen, average)
  }

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
  func didComputeLoss() {
    if objective.options.fixedLogitScale != nil { fill(model.logitScale.gradient, 0) }
  }

  /// After backward: removes the masks and sums their gradients over the ranks.
  func didBackward() throws {
    guard let pruning else { return }
    maskGradients = pruning.remove()
    try sync.communicator.allReduce(&maskGradients)
  }

  /// In place of the update, if the loss or the gradient is not finite: forgets the batch's statistics.
  func didFail() { model.visual.dropStatistics() }

  /// Before the update of a sound step: moves the running statistics once, and then the masks, whose term joins the
  /// report. All ranks take rank 0's running statistics, since each may have seen other images.
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

  /// After the update that was the optimizer's step `steps`: clamps the logit scale, which has arrived by now, and
  /// moves the average. Returns whether the scale had to be moved.
  func didUpdate(after steps: Int) -> Bool {
    let clamped = holdLogitScale()
    average?.update(after: steps)
    return clamped
  }

  /// Clamps the logit scale to its bounds and returns whether it had to be moved, or sets it to the fixed value. A
  /// frozen scale stays what it is.
  @discardableResult
  private func holdLogitScale() -> Bool {
    if frozen.logitScale { return false }
    guard let fixed = objective.options.fixedLogitScale?.wrappedValue else { return model.clampLogitScale() }
    fill(model.logitScale.value, S(log(fixed)))
    return false
  }
}
