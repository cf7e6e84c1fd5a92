import Dist
import Foundation
import Model
import Tensor

/// One training step over the global batch: forward, loss, backward, reduction, update.
///
/// Every term divides by the global count, so gradients are summed over ranks, never averaged. Each rank updates only
/// the slices that it owns (ZeRO-1). Gradients leave while backward runs, and updated parameters arrive during the
/// next forward: between steps, call `waitForParameters` before reading them.
final class Step<S: Scalar> {
  let model: CLIP<S>
  /// Its options may change between steps.
  let objective: Objective<S>
  /// The teacher's rows are written into it before a step.
  let losses: CaptionLosses<S>
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
    var average: WeightAverage<S>.Options?
  }

  /// Every rank must call it. The model's parameters have been allocated, with gradients.
  init(_ model: CLIP<S>, _ objective: Objective<S>, _ options: Options, communicator: Communicator) throws {
    (self.model, self.objective, self.communicator, clipNorm) = (model, objective, communicator, options.clipNorm)
    losses = CaptionLosses(objective)
    let sync = try GradientSync(model, options.reduce, frozen: options.frozen, over: communicator)
    self.sync = sync
    ranks = JobRanks(communicator: communicator, nodes: sync.embeddings)
    optimizer = AdamW(model.parameters, options.optimizer, ranges: sync.ownRanges, frozen: options.frozen)
    towers = TowerPass(model, frozen: options.frozen, microBatchSize: options.microBatchSize, over: communicator)
    hooks = StepHooks(
      model, objective, sync, frozen: options.frozen,
      average: options.average.map { WeightAverage(model.parameters, $0, ranges: sync.ownRanges) })
    model.visual.freeze(options.frozen)
  }

  /// Runs one step; a teacher's unit rows are in `losses.teacherRows` already. Throws a `NonFiniteError` on all
  /// ranks together; parameters, moments, masks and running statistics are then as before the step.
  func run(_ batch: StepBatch<S>, learningRate: Double) throws -> StepOutcome {
    let parameters = model.parameters
    let receivedBefore = sync.received
    var clock = StepClock()
    sync.markTouched(batch.captions)
    try hooks.willForward()
    // A parameter is first read once its stage has arrived, and then stays what it is to the end of backward.
    parameters.holdsValues = true
    defer { parameters.holdsValues = false }
    let features = clock.measure(\.forward, "forward", less: sync.waited) {
      fill(parameters.gradients, 0)
      return towers.forward(batch)
    }
    try clock.measure(\.communication) { try sync.waitForObjective() }
    var report = try clock.measure(\.loss, "loss") {
      try losses.accumulate(features, batch, logitScale: model.logitScale, ranks: ranks)
    }
    hooks.didComputeLoss()
    clock.measure(\.backward, "backward") {
      towers.backward(batch, losses.rawGradients()) { if hooks.gradientsLeaveEarly { sync.beginReduction() } }
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
    // Masks are factors of the parameters themselves and not of what products would read.
    try clock.measure(\.communication) { try sync.gather(exactly: hooks.pruning != nil) }
    let clamped = clock.measure(\.optimizer) { hooks.didUpdate(after: optimizer.step) }
    return StepOutcome(
      report: report, gradientNorm: norm, logitScale: exp(Double(model.logitScale.value[0])), clamped: clamped,
      received: sync.received - receivedBefore, pruning: masks, seconds: clock.seconds)
  }
}

/// This rank's rows of one global batch.
struct StepBatch<S: Scalar> {
  /// [b, 3, size, size].
  var images: Tensor<S>
  /// The captions of all images, those of an image one after another.
  var captions: [[Int32]]
  var captionsPerImage = 1
  /// The tokens of each image that the tower computes in training, one image after another; nil: all.
  var kept: [Int]?
  /// The place of these rows in the global batch of `count` pairs.
  var rows: Range<Int>
  var count: Int
  /// The factor of the teacher's similarities; nil without a teacher.
  var teacherScale: S?

  /// Returns the places of the captions of some images.
  func captions(of images: Range<Int>) -> Range<Int> {
    images.lowerBound * captionsPerImage..<images.upperBound * captionsPerImage
  }
}

/// The result of one step: the same on every rank, except for the seconds.
struct StepOutcome {
  /// The objective over the global batch, before the update.
  var report: ObjectiveReport
  /// The norm of the whole gradient, before clipping.
  var gradientNorm: Double
  var logitScale: Double
  /// True if the logit scale was clamped to its bounds.
  var clamped: Bool
  /// Bytes that this rank received from others, as `Traffic` counts them.
  var received: Int
  var pruning: MaskReport?
  var seconds = StepSeconds()
  var loss: Double { report.total }
}

struct StepSeconds {
  var forward = 0.0
  var loss = 0.0
  var backward = 0.0
  /// The exchange of gradients and parameters, including the wait for other ranks.
  var communication = 0.0
  var optimizer = 0.0
}

/// Measures the parts of a step, and draws those with a name in the trace.
struct StepClock {
  private(set) var seconds = StepSeconds()

  /// Runs `body` and adds its time to one part. The growth of `waiting` meanwhile counts as communication instead.
  mutating func measure<R>(
    _ part: WritableKeyPath<StepSeconds, Double>, _ name: String? = nil, less waiting: @autoclosure () -> Double = 0,
    _ body: () throws -> R
  ) rethrows -> R {
    let before = waiting()
    defer {
      let waited = waiting() - before
      seconds[keyPath: part] -= waited
      seconds.communication += waited
    }
    return try clock(&seconds[keyPath: part], name, body)
  }
}

/// Adds the time that `body` takes to `seconds`; with a name, it is a span of the trace too.
func clock<R>(_ seconds: inout Double, _ name: String? = nil, _ body: () throws -> R) rethrows -> R {
  let start = ContinuousClock.now
  defer { seconds += (ContinuousClock.now - start) / .seconds(1) }
  guard let name else { return try body() }
  return try Trace.span(name, .compute, body)
}

extension Tensor {
  /// Consecutive images of [b, channels, height, width].
  func samples(_ range: Range<Int>) -> Tensor {
    let length = shape[1] * shape[2] * shape[3]
    return slice(range.lowerBound * length..<range.upperBound * length)
      .reshaped(Shape(range.count, shape[1], shape[2], shape[3]))
  }

  /// One image [channels, height, width].
  func sample(_ index: Int) -> Tensor { samples(index..<index + 1).reshaped(Shape(shape[1], shape[2], shape[3])) }
}

/// The operations on a step's model between two steps. All ranks must call each of these methods together.
extension Step {
  /// Returns when all ranks' updates are in the model's parameters, unrounded. Call it before reading them between
  /// steps.
  func waitForParameters() throws { try sync.gatherExactly() }

  /// Exchanges the average of the weights with the model's weights on all ranks; a second call undoes the first.
  func exchangeAverage() throws {
    guard let average = hooks.average else { preconditionFailure("no average is kept") }
    try waitForParameters()
    average.exchange()
    try sync.gather(all: true, exactly: true)
    try waitForParameters()
  }

  /// Throws `ReplicasDiffer` unless parameters and running statistics are equal to the bit on all ranks.
  func checkReplicas(after done: Int) throws {
    try sync.waitForParameters()
    try communicator.requireSame(
      hash: sync.hash() ^ (bitHash(model.parameters.bufferValues) &* 3), after: done)
  }

  /// Returns the objective of a batch with the towers in evaluation mode; a teacher's unit rows are in
  /// `losses.teacherRows` already. It changes gradients alone, which the next step clears.
  func evaluate(_ batch: StepBatch<S>) throws -> Double {
    let features = towers.forward(batch, isTraining: false)
    let report = try losses.accumulate(features, batch, logitScale: model.logitScale, ranks: ranks)
    _ = losses.rawGradients()
    return report.total
  }

  /// Counts a step whose update is left out: model and moments are what they were.
  func skip() {
    optimizer.step += 1
    hooks.pruning?.step += 1
  }

  /// Finds out which ranks hold numbers that are not finite. Loss and norm bring all ranks here together.
  func diagnose(
    _ report: ObjectiveReport, norm: Double, _ batch: StepBatch<S>, _ features: (image: Tensor<S>, text: Tensor<S>)
  ) throws -> NonFiniteError {
    let teacher = batch.teacherScale.map { _ in
      losses.teacherRows(batch.rows, of: batch.count, captionsPerImage: batch.captionsPerImage)
    }
    let checked: [(name: String, tensor: Tensor<S>?)] = [
      ("image features", features.image), ("text features", features.text),
      ("teacher's image embeddings", teacher?.image), ("teacher's text embeddings", teacher?.text),
      ("gradient", model.parameters.gradients),
    ]
    let found = checked.filter { item in item.tensor.map { !sumOfSquares($0).isFinite } ?? false }.map(\.name)
    let origins = try communicator.allGather(found).enumerated().compactMap { rank, names in
      names.isEmpty ? nil : "rank \(rank): \(names.joined(separator: ", "))"
    }
    return NonFiniteError(step: optimizer.step + 1, report: report, norm: norm, origins: origins)
  }
}
