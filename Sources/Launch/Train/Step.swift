import Dist
import Foundation
import Model
import Tensor

/// One training step over the global batch: forward, loss, backward, reduction, update.
///
/// Every term divides by the global count, so gradients are summed over ranks, never averaged. Each rank updates only
/// the slices that it owns, with the moments of those alone (ZeRO-1). Gradients leave for their owners while backward
/// runs, and updated parameters arrive during the next forward: between steps, call `waitForParameters` before reading
/// them.
final class Step<S: Scalar> {
  let model: CLIP<S>
  /// Its options may change between steps; the teacher's rows are written into it before a step.
  let objective: Objective<S>
  let communicator: Communicator
  let optimizer: AdamW<S>
  let sync: GradientSync<S>
  let towers: TowerPass<S>
  let hooks: StepHooks<S>
  private let clipNorm: Double?
  private let ranks: JobRanks<S>

  struct Options {
    var optimizer = AdamW<S>.Options()
    /// The largest norm of the whole gradient; nil: no clipping.
    var clipNorm: Double?
    /// The most pairs that pass through the towers at once on a rank; nil: all.
    var microBatchSize: Int?
    var reduce = ReduceConfig()
    var frozen = Frozen.none
    /// The moving average of the weights, if one is kept.
    var average: WeightAverage<S>.Options?
  }

  /// Every rank must call it. The model's parameters have been allocated, with gradients.
  init(_ model: CLIP<S>, _ objective: Objective<S>, _ options: Options, communicator: Communicator) throws {
    (self.model, self.objective, self.communicator, clipNorm) = (model, objective, communicator, options.clipNorm)
    ranks = JobRanks(communicator: communicator)
    let sync = try GradientSync(model, options.reduce, frozen: options.frozen, over: communicator)
    self.sync = sync
    optimizer = AdamW(model.parameters, options.optimizer, ranges: sync.ownRanges, frozen: options.frozen)
    towers = TowerPass(
      model, frozen: options.frozen, microBatchSize: options.microBatchSize, over: communicator)
    hooks = StepHooks(
      model, objective, sync, frozen: options.frozen,
      average: options.average.map { WeightAverage(model.parameters, $0, ranges: sync.ownRanges) })
    model.visual.freeze(options.frozen)
  }

  /// Runs one step. If the objective has a teacher, the teacher's unit rows are in `objective.teacherRows` already.
  ///
  /// - Throws: a `NonFiniteError` on all ranks together; parameters, moments, masks and running statistics are then
  ///   what they were before the step.
  func run(_ batch: StepBatch<S>, learningRate: Double) throws -> StepOutcome {
    let parameters = model.parameters
    let receivedBefore = sync.received
    var clock = StepClock()
    sync.markTouched(batch.captions)
    try hooks.willForward()
    // A parameter that is still on its way is first read once its stage has arrived; it then stays to the end of
    // backward.
    parameters.holdsValues = true
    defer { parameters.holdsValues = false }
    let features = clock.measure(\.forward, "forward", less: sync.waited) {
      fill(parameters.gradients, 0)
      return towers.forward(batch)
    }
    try clock.measure(\.communication) { try sync.waitForObjective() }
    var report = try clock.measure(\.loss, "loss") {
      try objective.accumulate(
        image: features.image, text: features.text, rows: batch.rows, count: batch.count, logitScale: model.logitScale,
        teacherScale: batch.teacherScale, ranks: ranks)
    }
    hooks.didComputeLoss()
    clock.measure(\.backward, "backward") {
      towers.backward(batch, objective.rawGradients()) { if hooks.gradientsLeaveEarly { sync.beginReduction() } }
    }
    parameters.holdsValues = false
    let norm = try clock.measure(\.communication) {
      try hooks.didBackward()
      try sync.finishReduction()
      optimizer.clearFrozen(sync.own)
      return try communicator.allReduce(sumOfSquares(sync.own)).squareRoot()
    }
    guard report.total.isFinite, norm.isFinite else {
      hooks.didFail()
      throw try diagnose(report, norm: norm, batch, features)
    }
    let masks = try clock.measure(\.communication) { try hooks.willUpdate(&report) }
    clock.measure(\.optimizer, "optimizer") {
      optimizer.update(
        parameters.values, gradient: sync.own, learningRate: learningRate,
        gradientScale: clipFactor(norm: norm, limit: clipNorm))
    }
    try clock.measure(\.communication) { try sync.gather() }
    let clamped = clock.measure(\.optimizer) { hooks.didUpdate(after: optimizer.step) }
    return StepOutcome(
      report: report, gradientNorm: norm, logitScale: exp(Double(model.logitScale.value[0])), clamped: clamped,
      received: sync.received - receivedBefore, pruning: masks, seconds: clock.seconds)
  }
}
