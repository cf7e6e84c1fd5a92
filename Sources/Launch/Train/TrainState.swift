import Dist
import Foundation
import Model
import Settings
import Tensor

/// The state that training changes: the model, its optimizer and masks, and the position in the run.
struct TrainState {
  private(set) var step: Step<Float>
  let checkpointing: Checkpointing
  /// The number of steps that had been done when the run started, or to which it was rewound.
  private(set) var startStep: Int
  /// The number of batches that were skipped by rewinding: the data are so far ahead of the steps.
  private(set) var passedOver: Int
  let initialization: (any Initialization)?
  private let inputs: TrainingInputs

  /// Allocates the state, and restores it from a checkpoint or initializes it. Every rank must call it.
  init(_ inputs: TrainingInputs, from checkpoint: Checkpoint?, log: (String) -> Void) throws {
    self.inputs = inputs
    let config = try inputs.config(in: checkpoint)
    step = try Self.prepare(config, inputs)
    if let pruning = inputs.pruning, !pruning.isCut(after: checkpoint?.manifest.record.step ?? 0) {
      step.hooks.pruning = pruning.masks(of: step.model)
    }
    initialization = checkpoint == nil ? try inputs.initialization(for: config) : nil
    checkpointing = try Checkpointing(
      inputs, step: step, start: checkpoint.map { try SavedRun($0).start } ?? initialization?.saved)
    startStep = if let checkpoint { try checkpointing.restore(checkpoint, log: log) } else { 0 }
    passedOver = checkpoint?.manifest.record.passedOver ?? 0
    guard startStep <= inputs.steps else {
      throw UserError(
        "the checkpoint has \(startStep) steps done and the run has \(inputs.steps): raise steps or epochs, or resume "
          + "from an earlier one", status: .usage, isShared: true)
    }
    let batches = Checked(inputs.steps) + Checked(passedOver)
    guard batches * Checked(inputs.run.batch.global) <= Sampler.mostSamples else {
      throw UserError(
        checkpoint?.folder,
        "has passed over \(passedOver) batches, with which the run would draw more than 2⁵³ samples", isShared: true)
    }
    if checkpoint == nil {
      step.model.initialize(seed: inputs.run.seed)
      try initialization?.apply(to: step.model)
      step.hooks.average?.begin()
    }
  }

  private static func prepare(_ config: CLIPConfig, _ inputs: TrainingInputs) throws -> Step<Float> {
    let (model, objective) = inputs.student(config)
    let (run, ranks) = (inputs.run, inputs.ranks)
    model.parameters.allocate(gradients: true)
    if run.model.syncBatchNorm { model.visual.synchronize(over: JobRanks(communicator: ranks)) }
    return try Step(
      model, objective,
      .init(
        optimizer: inputs.optimizer.options, clipNorm: inputs.optimizer.clipNorm,
        microBatchSize: run.batch.microBatchSize, reduce: run.reduce, frozen: inputs.frozen,
        average: run.ema?.options), communicator: ranks)
  }

  /// Restores a checkpoint; the data continue after the batch of step `failed`. Every rank must call it.
  mutating func rewind(to checkpoint: Checkpoint, failed: Int) throws {
    let batches = failed + passedOver
    try step.waitForParameters()
    if step.hooks.pruning == nil, let pruning = inputs.pruning, !pruning.isCut(after: checkpoint.manifest.record.step) {
      self = try TrainState(inputs, from: checkpoint) { _ in }
    } else {
      startStep = try checkpointing.restore(checkpoint) { _ in }
    }
    passedOver = batches - startStep
  }

  /// Replaces a pruned model by the smaller one that its masks leave, whose optimizer restarts, the same on every rank.
  /// Returns the log's line about it, or nil if the model has no masks.
  mutating func cut() throws -> String? {
    guard let pruning = step.hooks.pruning else { return nil }
    let masks = pruning.masks
    try step.waitForParameters()
    let smaller = try Self.prepare(pruning.masked.cutConfig(masks.expected), inputs)
    pruning.masked.cut(masks.expected, into: smaller.model)
    smaller.hooks.average?.begin()
    let text = Pruning.text(step.model, smaller.model, masks.sparsity(of: masks.expected))
    step = smaller
    try checkpointing.replaceStep(smaller)
    return text
  }
}
