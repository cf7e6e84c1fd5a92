import Dist
import Foundation
import Model
import Settings
import Tensor

/// The steps of a run, and what happens between them: the log, checkpoints, evaluations, and requests to stop.
final class TrainLoop {
  private typealias Loader = Prefetcher<Sampler.Draw, TrainingBatch>
  private let inputs: TrainingInputs
  private var state: TrainState
  private let teacher: (any TeacherSource)?
  private let loaders: Int
  private let log: RunLog
  private var nonFinite: NonFiniteCount
  /// The best round of evaluation so far; nil if the run keeps no best checkpoint.
  private(set) var best: BestSoFar?
  /// The number of steps done.
  private(set) var done: Int
  private(set) var seconds = StepTimes()
  private let rows: Range<Int>
  private var run: RunConfig { inputs.run }
  private var ranks: Communicator { inputs.ranks }

  init(_ inputs: TrainingInputs, _ state: TrainState, teacher: (any TeacherSource)?, loaders: Int, log: RunLog) {
    (self.inputs, self.state, self.teacher, self.loaders, self.log) = (inputs, state, teacher, loaders, log)
    nonFinite = NonFiniteCount(config: inputs.run.nonFinite)
    (best, done) = (inputs.evaluations.metric.map { BestSoFar($0) }, state.startStep)
    rows = inputs.ranks.slice(of: inputs.run.batch.global)
  }

  /// Returns the model with its present parameters. Every rank must call it.
  func currentModel() throws -> CLIP<Float> {
    try state.step.waitForParameters()
    return state.step.model
  }

  /// Returns the model with its moving average for good; nil if none is kept. Every rank must call it.
  func averagedModel() throws -> CLIP<Float>? {
    guard state.step.hooks.average != nil else { return nil }
    try state.step.exchangeAverage()
    return state.step.model
  }

  /// Trains to the end (nil), or to the signal that stopped the run, with everything saved. A run whose evaluations no
  /// longer find a new best may end before its last step. Every rank must call it.
  func train() throws -> String? {
    while true {
      do {
        let signal = try runSteps()
        try state.checkpointing.finish(log)
        return signal
      } catch let error as NonFiniteError where run.nonFinite.policy == .rewind { try rewind(error) }
    }
  }

  private func runSteps() throws -> String? {
    let steps = state.startStep..<inputs.steps
    done = steps.lowerBound
    if done > 0 {
      // A run that was stopped may have left out evaluations.
      let isEvaluated = try log.has(evaluations: evaluationsDue(after: done), at: done)
      try restoreBest(upTo: isEvaluated ? done : done - 1)
      if !isEvaluated, let signal = try evaluate(at: done) { return try stopped(by: signal, after: done) }
      // The run may have resumed from a checkpoint in another folder.
      let isSaved = try ranks.broadcast { Checkpoint.exists(step: done, in: Checkpointing.folder(of: run)) }
      if !isEvaluated { try keepIfBest(isSaved: isSaved) }
      if try hasEnded(isSaved: isSaved) { return nil }
    }
    if let signal = try StopRequest.agreed(over: ranks) { return try stopped(by: signal, after: steps.lowerBound) }
    reserve()
    let ahead = state.passedOver
    let loader = inputs.data.loader(
      steps: steps.lowerBound + ahead..<steps.upperBound + ahead, rows: rows, workers: loaders,
      crops: inputs.crops)
    for number in steps {
      if number == run.prune?.step, let text = try state.cut() {
        try log.note(text, at: number)
        reserve()
      }
      let report = try runOrSkip(number, loader)
      done = number + 1
      if let report { seconds.append(report.seconds) }
      if let every = run.reduce.checkEvery, done % every == 0 { try state.step.checkReplicas(after: done) }
      try Trace.flush()
      let (stop, isDue) = try StopRequest.agreed(over: ranks, isDue: state.checkpointing.isDue)
      if let report { try log.record(report, atOnce: stop != nil) }
      try state.checkpointing.logFinished(log)
      let isSaved = run.checkpoint.every.map { done % $0 == 0 } ?? false || isDue || done == inputs.steps || stop != nil
      if isSaved { try save(done) }
      if let stop, done < inputs.steps { return try stopped(by: stop, after: done) }
      guard evaluationsDue(after: done) > 0 else { continue }
      if let signal = try evaluate(at: done) {
        if !isSaved { try save(done) }
        return try stopped(by: signal, after: done)
      }
      try keepIfBest(isSaved: isSaved)
      if try hasEnded(isSaved: isSaved) { return nil }
    }
    return nil
  }

  private func reserve() {
    state.step.towers.reserve(inputs.data.captions(about: 1024), rows: rows.count, of: run.batch.global)
    teacher?.reserve(inputs.data.captions(about: 1024, teachers: true), rows: rows.count)
  }

  private func stopped(by signal: String, after done: Int) throws -> String {
    Progress.enter(.saving, after: done)
    try state.checkpointing.finish(log)
    log.print(RunLog.stopped(by: signal, after: done))
    return signal
  }

  private func runOrSkip(_ number: Int, _ loader: Loader) throws -> StepReport? {
    do {
      let report = try runStep(number, loader)
      nonFinite.didSucceed()
      return report
    } catch var error as NonFiniteError {
      // The optimizer counts from the cut of a model that was pruned.
      error.step = number + 1
      guard run.nonFinite.policy == .skip else { throw error }
      try log.note(nonFinite.skip(error), at: error.step)
      state.step.skip()
      return nil
    }
  }

  /// Goes back to the newest sound checkpoint. The run ends if there is none.
  private func rewind(_ error: NonFiniteError) throws {
    Progress.enter(.saving, after: error.step - 1)
    try state.checkpointing.finish(log)
    guard let checkpoint = try Checkpointing.find(.auto, of: run, over: ranks, log: { log.print($0) }) else {
      throw error.limited("there is no checkpoint yet to go back to")
    }
    try log.note(nonFinite.rewind(error, to: checkpoint.manifest.record.step), at: error.step)
    try state.rewind(to: checkpoint, failed: error.step)
  }

  private func runStep(_ number: Int, _ loader: Loader) throws -> StepReport {
    let begin = ContinuousClock.now
    let before = loader.waited
    Progress.enter(.waitingForData, after: number)
    guard let batch = try Trace.span("data", .data, { try loader.next() }) else {
      preconditionFailure("a batch was planned for each step")
    }
    defer { loader.recycle(batch) }
    Progress.enter(number == state.startStep ? .preparing : .training, after: number)
    let step = state.step
    let learningRate = inputs.schedule.learningRate(at: number)
    step.objective.options = run.objective.at(number)
    step.objective.measuresTermGradients = run.log.measuresTermGradients(at: number + 1)
    let teacherSeconds = try teacher.map { teacher in
      var seconds = 0.0
      try clock(&seconds, "teacher") {
        try inputs.ensemble.embed(batch, first: teacher, rows, of: run.batch.global, into: step.losses)
      }
      return seconds
    }
    let outcome = try step.run(
      StepBatch(
        images: batch.student.images, captions: batch.student.captions, captionsPerImage: batch.captionsPerImage,
        kept: batch.kept, rows: rows, count: run.batch.global, teacherScale: teacher?.scale),
      learningRate: learningRate)
    let done = number + 1
    return StepReport(
      step: done, steps: inputs.steps,
      epoch: Double(done + state.passedOver) / Double(inputs.data.sampler.stepsPerEpoch), outcome: outcome,
      learningRate: learningRate, samples: run.batch.global, seconds: (ContinuousClock.now - begin) / .seconds(1),
      dataSeconds: loader.waited - before, teacherSeconds: teacherSeconds)
  }

  private func save(_ done: Int) throws {
    Progress.enter(.saving, after: done)
    try Trace.span("checkpoint", .data) { try state.checkpointing.save(after: done, passedOver: state.passedOver, log) }
  }

  private func evaluationsDue(after done: Int) -> Int {
    let isDue = done == inputs.steps || run.evaluate.every.map { done % $0 == 0 } ?? false
    return isDue ? run.evaluate.evaluations.count * run.evaluatedAverages.count : 0
  }

  /// Evaluates the model, its average, or both; returns the signal that ended it early, if any.
  private func evaluate(at done: Int) throws -> String? {
    Progress.enter(.evaluating, after: done)
    let step = state.step
    try step.waitForParameters()
    var figures: [String: Double] = [:]
    for averaged in run.evaluatedAverages {
      if averaged { try step.exchangeAverage() }
      let evaluate = { [inputs, log, teacher, loaders, objective = run.objective.at(done - 1)] in
        try Trace.span("evaluation", .compute) {
          try inputs.evaluations.run(
            step, objective, teacher: teacher, loaders: loaders, averaged: averaged, at: done, log)
        }
      }
      var signal: String?
      do {
        // A model that is being pruned is evaluated as the model to which it would be cut now.
        let found = try step.hooks.pruning.map { try $0.withExpected(evaluate) } ?? evaluate()
        figures.merge(found) { $1 }
      } catch let interruption as StopRequest.Interruption { signal = interruption.signal }
      if averaged { try step.exchangeAverage() }
      if let signal { return signal }
    }
    if let metric = best?.metric, countsForBest(done), let value = figures[metric.name] { best?.take(value, at: done) }
    return nil
  }
}

/// The best checkpoint by a figure of the evaluations, and the end of a run that finds no better one.
extension TrainLoop {
  /// Returns true if the evaluation after these steps counts: a model with masks is not the one that the run makes.
  private func countsForBest(_ done: Int) -> Bool { inputs.pruning?.isCut(after: done) ?? true }

  /// Takes the best round up to a step from the log and the disk, and marks its checkpoint again: the run may have died
  /// between an evaluation and the mark, or gone back to a step before the marked one.
  private func restoreBest(upTo last: Int) throws {
    guard let metric = best?.metric else { return }
    let folder = Checkpointing.folder(of: run)
    let found: BestSoFar = try ranks.broadcast {
      let history = try LogReader.read(run.folder.appending(path: RunLog.fileName), run: run.name)
      return BestSoFar(
        metric, in: history, upTo: last, marked: BestFigure.marked(in: folder), counts: countsForBest,
        isThere: { Checkpoint.exists(step: $0, in: folder) })
    }
    best = found
    try state.checkpointing.mark(best: found.best)
    if let figure = found.best { try log.record(figure) }
  }

  /// Marks the checkpoint of the present step if it is the best, and saves it first where it has not been.
  private func keepIfBest(isSaved: Bool) throws {
    guard let figure = best?.best, figure.step == done else { return }
    if !isSaved { try save(done) }
    try state.checkpointing.mark(best: figure)
    try log.record(figure)
  }

  /// Returns true if the run's patience has ended before its last step. The present step is then saved, from which the
  /// run can go on with more patience.
  private func hasEnded(isSaved: Bool) throws -> Bool {
    guard let best, done < inputs.steps, best.hasEnded(patience: run.evaluate.patience) else { return false }
    if !isSaved { try save(done) }
    try log.note(
      "ends after step \(done) of \(inputs.steps): \(Figures.count(best.since, "evaluation")) without a new best "
        + "(evaluate.patience)", at: done)
    return true
  }
}

/// A loss or gradient norm that is not finite. All ranks throw it together.
struct NonFiniteError: ExitCoded, CustomStringConvertible {
  var step: Int
  let report: ObjectiveReport
  let norm: Double
  /// A text for each rank whose own features, teacher rows or gradients are not finite.
  let origins: [String]
  var limit: String?
  var isShared: Bool { true }
  var status: ExitStatus { .notFinite }
  var description: String {
    let advice = "lower optimizer.learning_rate or set optimizer.clip_norm, and resume from the last checkpoint"
    return "\(finding); \(limit.map { "\($0); " } ?? "")\(advice)"
  }

  func limited(_ reason: String) -> NonFiniteError {
    var error = self
    error.limit = reason
    return error
  }

  var finding: String {
    let overflow = "no rank's own numbers are at fault: the sum over ranks overflowed"
    let place = origins.isEmpty ? overflow : origins.joined(separator: "; ")
    let terms = report.terms.filter { !$0.value.isFinite }.map { "\($0.name) \($0.value)" }
    let loss = "\(report.total)" + (terms.isEmpty ? "" : " (\(terms.joined(separator: ", ")))")
    return "step \(step): loss \(loss), gradient norm \(norm): not finite (\(place))"
  }
}

/// Counts the steps whose loss or gradient norm was not finite, up to `non_finite.limit`, alike on every rank.
struct NonFiniteCount {
  let config: NonFiniteConfig
  /// The number of steps skipped in a row, and since the start.
  private(set) var skipped = 0
  private(set) var skippedInAll = 0
  /// The checkpoint to which the run was last rewound, and how many times in a row.
  fileprivate var rewound: (step: Int, times: Int) = (-1, 0)
  mutating func didSucceed() { skipped = 0 }

  /// Counts a skipped step and returns the log's line about it. Throws the error if the limit is reached.
  mutating func skip(_ error: NonFiniteError) throws -> String {
    guard skipped < config.limit else {
      throw error.limited("\(skipped) steps in a row were skipped before it (non_finite.limit)")
    }
    skipped += 1
    skippedInAll += 1
    return "\(error.finding); the update is skipped (\(skipped) in a row, \(skippedInAll) since the start)"
  }

  /// Counts a return to the checkpoint of `step`, likewise.
  mutating func rewind(_ error: NonFiniteError, to step: Int) throws -> String {
    let times = rewound.step == step ? rewound.times : 0
    guard times < config.limit else {
      throw error.limited("the run has gone back to step \(step) \(times) times already (non_finite.limit)")
    }
    rewound = (step, times + 1)
    let batches = error.step - step
    let skipped = batches == 1 ? "batch after it" : "\(batches) batches after it"
    return "\(error.finding); going back to step \(step), and skipping the \(skipped)"
  }
}

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
