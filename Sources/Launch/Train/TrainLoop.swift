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
