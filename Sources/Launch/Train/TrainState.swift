import Dist
import Model
import Tensor

/// The state that training changes: the model, its optimizer and masks, and the position in the run.
struct TrainState {
  private(set) var step: Step<Float>
  let checkpointing: Checkpointing
  /// The number of steps that had been done when the run started, or to which it was rewound.
  private(set) var startStep: Int
  /// The number of batches that were skipped by rewinding: the data are so far ahead of the steps.
  private(set) var passedOver: Int
  /// The weights of another model with which a new model was initialized, if any.
  let initialization: (any Initialization)?
  private let inputs: TrainingInputs

  /// Allocates the state and restores it from a checkpoint, or initializes it without one. `log` gets warnings and
  /// notes for the user. Every rank must call it.
  init(_ inputs: TrainingInputs, from checkpoint: Checkpoint?, log: (String) -> Void) throws {
    self.inputs = inputs
    let config = try inputs.config(in: checkpoint)
    step = try Self.prepare(config, inputs)
    if let pruning = inputs.pruning, !pruning.isCut(after: checkpoint?.manifest.record.step ?? 0) {
      step.hooks.pruning = pruning.masks(of: step.model)
    }
    initialization = checkpoint == nil ? try inputs.initialization(for: config) : nil
    checkpointing = try Checkpointing(
      run: inputs.run, step: step, teacher: inputs.ensemble.saved(with: inputs.teacher),
      start: checkpoint.map { try SavedRun($0).start } ?? initialization?.saved, ranks: inputs.ranks)
    startStep = if let checkpoint { try checkpointing.restore(checkpoint, log: log) } else { 0 }
    passedOver = checkpoint?.manifest.record.passedOver ?? 0
    guard startStep <= inputs.steps else {
      throw UserError(
        nil,
        "the checkpoint has \(startStep) steps done and the run has \(inputs.steps): raise steps or epochs, or resume "
          + "from an earlier one",
        status: .usage, isShared: true)
    }
    if checkpoint == nil {
      step.model.initialize(seed: inputs.run.seed)
      try initialization?.apply(to: step.model)
      step.hooks.average?.begin()
    }
  }

  /// Allocates a model of these sizes with its training step.
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

  /// Restores the state of `checkpoint`, while the data continue after the batch of step `failed`. Every rank must call
  /// it.
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

  /// Replaces a model that is being pruned by the smaller one that its masks leave, whose optimizer restarts. The
  /// result is the same on every rank. Returns the log's line about the cut, or nil if the model has no masks.
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
