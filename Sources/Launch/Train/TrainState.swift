import Dist
import Model
import Tensor

/// The model of a run with what trains and saves it, as the run begins or goes on from a checkpoint.
struct TrainState {
  private(set) var step: Step<Float>
  private(set) var checkpoints: Checkpoints
  /// Steps done.
  private(set) var start: Int
  /// Batches by which the data are ahead of the steps.
  private(set) var passedOver: Int
  /// What a new model has not drawn.
  let first: (any Initialization)?
  private let inputs: TrainingInputs

  /// Makes memory and fills it. Every rank must call it; `say` gets what the user should know.
  init(_ inputs: TrainingInputs, from checkpoint: Checkpoint?, log: (String) -> Void) throws {
    self.inputs = inputs
    let config = try inputs.config(in: checkpoint)
    step = try Self.prepare(config, inputs)
    if let pruning = inputs.pruning, !pruning.isCut(after: checkpoint?.manifest.record.step ?? 0) {
      step.hooks.pruning = pruning.masks(of: step.model)
    }
    first = checkpoint == nil ? try inputs.initialization(for: config) : nil
    let own = try Checkpoints(
      run: inputs.run, step: step, teacher: inputs.further.saved(with: inputs.teacher),
      start: checkpoint.map { try SavedRun($0).start } ?? first?.saved, ranks: inputs.ranks)
    checkpoints = own
    start = try checkpoint.map { try own.restore($0, log: log) } ?? 0
    passedOver = checkpoint?.manifest.record.passedOver ?? 0
    guard start <= inputs.steps else { throw RunPastEnd(done: start, steps: inputs.steps) }
    if checkpoint == nil {
      step.model.initialize(seed: inputs.run.seed)
      try first?.apply(to: step.model)
      step.hooks.average?.begin()
    }
  }

  /// Makes memory for a model and what trains it.
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

  /// Becomes what it was after the steps of `checkpoint`, while the data go on after the batch of step `lost`. Every
  /// rank must call it.
  mutating func goBack(to checkpoint: Checkpoint, lost: Int) throws {
    let ahead = lost + passedOver
    try step.waitForParameters()
    if step.hooks.pruning == nil, let pruning = inputs.pruning, !pruning.isCut(after: checkpoint.manifest.record.step) {
      self = try TrainState(inputs, from: checkpoint) { _ in }
    } else {
      start = try checkpoints.restore(checkpoint) { _ in }
    }
    passedOver = ahead - start
  }

  /// Puts what the masks leave of the model in its place, with an optimizer that begins anew; the same on every rank.
  /// Returns what the log should say.
  mutating func cut() throws -> String? {
    guard let pruning = step.hooks.pruning else { return nil }
    let masks = pruning.masks
    try step.waitForParameters()
    let smaller = try Self.prepare(pruning.masked.cutConfig(masks.expected), inputs)
    pruning.masked.cut(masks.expected, into: smaller.model)
    smaller.hooks.average?.begin()
    let text = Pruning.text(step.model, smaller.model, masks.sparsity(of: masks.expected))
    step = smaller
    checkpoints = try checkpoints.of(step)
    return text
  }
}

/// A run that has gone further than its file wants.
struct RunPastEnd: ExitCoded, CustomStringConvertible {
  let done: Int
  let steps: Int

  var isShared: Bool { true }
  var status: ExitStatus { .usage }
  var description: String {
    "the checkpoint has \(done) steps done and the run has \(steps): raise steps or epochs, or resume "
      + "from an earlier one"
  }
}
