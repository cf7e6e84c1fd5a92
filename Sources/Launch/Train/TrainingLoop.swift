import Dist
import Model
import Settings
import Tensor

/// The steps of a run, with what goes on between them: the log, checkpoints, evaluations, and requests to stop.
final class TrainingLoop {
  private typealias Loader = Prefetcher<Sampler.Draw, TrainingBatch>

  private let inputs: TrainingInputs
  private var state: TrainState
  private let teachers: Teachers?
  private let loaders: Int
  private let log: RunLog
  private var nonFinite: NonFiniteCount
  /// What steps have taken.
  private(set) var seconds = StepTimes()
  /// The rows of a global batch that this rank has.
  private let rows: Range<Int>
  private var run: RunConfig { inputs.run }
  private var ranks: Communicator { inputs.ranks }

  /// - Parameter loaders: threads that prepare batches.
  init(_ inputs: TrainingInputs, _ state: TrainState, teachers: Teachers?, loaders: Int, log: RunLog) {
    self.inputs = inputs
    self.state = state
    self.teachers = teachers
    self.loaders = loaders
    self.log = log
    nonFinite = NonFiniteCount(inputs.run.nonFinite)
    rows = inputs.ranks.slice(of: inputs.run.batch.global)
  }

  /// The model as it is. Every rank must call it.
  func currentModel() throws -> CLIP<Float> {
    try state.step.waitForParameters()
    return state.step.model
  }

  /// The model with the average of its weights in their place, for good; nil where none is kept. Every rank must call
  /// it.
  func averagedModel() throws -> CLIP<Float>? {
    guard state.step.hooks.average != nil else { return nil }
    try state.step.exchangeAverage()
    return state.step.model
  }

  /// Trains to the end; nil, or the signal that stopped the run, with everything saved. Every rank must call it.
  func train() throws -> String? {
    while true {
      do {
        let signal = try takeSteps()
        try state.checkpoints.finish(log)
        return signal
      } catch let error as NonFiniteError where run.nonFinite.policy == .rewind {
        try rewind(error)
      }
    }
  }

  private func takeSteps() throws -> String? {
    let steps = state.start..<inputs.steps
    // What a run that was stopped has not evaluated any more.
    if steps.lowerBound > 0, try !log.has(evaluations: evaluationsDue(after: steps.lowerBound), at: steps.lowerBound) {
      if let signal = try evaluate(at: steps.lowerBound) { return try stopped(by: signal, after: steps.lowerBound) }
    }
    if let signal = try StopRequest.agreed(over: ranks) { return try stopped(by: signal, after: steps.lowerBound) }
    reserve()
    let ahead = state.passedOver
    let loader = inputs.data.loader(
      steps: steps.lowerBound + ahead..<steps.upperBound + ahead, rows: rows, workers: loaders)
    for number in steps {
      if number == run.prune?.step, let text = try state.cut() {
        try log.note(text, at: number)
        reserve()
      }
      let done = number + 1
      let report = try takeOrSkip(number, loader)
      if let report { seconds.append(report.seconds) }
      if let every = run.reduce.checkEvery, done % every == 0 { try state.step.checkReplicas(after: done) }
      try Trace.flush()
      let (stop, isDue) = try StopRequest.agreed(over: ranks, isDue: state.checkpoints.isDue)
      if let report { try log.record(report, atOnce: stop != nil) }
      try state.checkpoints.logFinished(log)
      let isSaved =
        run.checkpoint.every.map { done % $0 == 0 } ?? false || isDue || done == inputs.steps || stop != nil
      if isSaved { try save(done) }
      if let stop, done < inputs.steps { return try stopped(by: stop, after: done) }
      guard evaluationsDue(after: done) > 0, let signal = try evaluate(at: done) else { continue }
      if !isSaved { try save(done) }
      return try stopped(by: signal, after: done)
    }
    return nil
  }

  /// Takes the memory that captions need.
  private func reserve() {
    state.step.towers.reserve(inputs.data.captions(about: 1024), rows: rows.count, of: run.batch.global)
    teachers?.first.reserve(inputs.data.captions(about: 1024, teachers: true), rows: rows.count)
  }

  private func stopped(by signal: String, after done: Int) throws -> String {
    Progress.enter(.saving, after: done)
    try state.checkpoints.finish(log)
    log.printStopped(by: signal, after: done)
    return signal
  }

  /// One step; nil where its update was left out.
  private func takeOrSkip(_ number: Int, _ loader: Loader) throws -> StepReport? {
    do {
      let report = try take(number, loader)
      nonFinite.stepWasFine()
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

  /// Goes back to the newest sound checkpoint. Where there is none the run ends.
  private func rewind(_ error: NonFiniteError) throws {
    Progress.enter(.saving, after: error.step - 1)
    try state.checkpoints.finish(log)
    guard let checkpoint = try Checkpoints.find(.auto, of: run, over: ranks, log: { log.print($0) }) else {
      throw error.limited("there is no checkpoint yet to go back to")
    }
    try log.note(nonFinite.rewind(error, to: checkpoint.manifest.record.step), at: error.step)
    try state.goBack(to: checkpoint, lost: error.step)
  }

  private func take(_ number: Int, _ loader: Loader) throws -> StepReport {
    let begin = ContinuousClock.now
    let before = loader.waited
    Progress.enter(.waitingForData, after: number)
    guard let batch = try Trace.span("data", .data, { try loader.next() }) else {
      preconditionFailure("a batch was planned for each step")
    }
    defer { loader.recycle(batch) }
    Progress.enter(number == state.start ? .preparing : .training, after: number)
    let step = state.step
    let learningRate = inputs.schedule.learningRate(at: number)
    step.objective.options = run.objective.at(number)
    var teacherSeconds: Double?
    if let teachers {
      var seconds = 0.0
      try clock(&seconds, "teacher") { try teachers.embed(batch, rows, of: run.batch.global, into: step.objective) }
      teacherSeconds = seconds
    }
    let outcome = try step.run(
      StepBatch(
        images: batch.student.images, captions: batch.student.captions, rows: rows, count: run.batch.global,
        teacherScale: teachers?.scale), learningRate: learningRate)
    let done = number + 1
    return StepReport(
      step: done, steps: inputs.steps,
      epoch: Double(done + state.passedOver) / Double(inputs.data.sampler.stepsPerEpoch),
      objective: outcome.report, learningRate: learningRate, logitScale: outcome.logitScale, clamped: outcome.clamped,
      gradientNorm: outcome.gradientNorm, received: outcome.received, pruning: outcome.pruning,
      samples: run.batch.global, seconds: (ContinuousClock.now - begin) / .seconds(1),
      dataSeconds: loader.waited - before, teacherSeconds: teacherSeconds)
  }

  private func save(_ done: Int) throws {
    Progress.enter(.saving, after: done)
    try Trace.span("checkpoint", .data) {
      try state.checkpoints.save(done, passedOver: state.passedOver, log)
    }
  }

  /// How many evaluations there are after so many steps.
  private func evaluationsDue(after done: Int) -> Int {
    let isDue = done == inputs.steps || run.evaluate.every.map { done % $0 == 0 } ?? false
    return isDue ? run.evaluate.evaluations.count * run.evaluatedAverages.count : 0
  }

  /// Evaluates the model, its average, or one after the other; returns the signal that ended it early.
  private func evaluate(at done: Int) throws -> String? {
    Progress.enter(.evaluating, after: done)
    try state.step.waitForParameters()
    for averaged in run.evaluatedAverages {
      if averaged { try state.step.exchangeAverage() }
      let signal = try evaluateOnce(at: done, averaged: averaged)
      if averaged { try state.step.exchangeAverage() }
      if let signal { return signal }
    }
    return nil
  }

  private func evaluateOnce(at done: Int, averaged: Bool) throws -> String? {
    let model = state.step.model
    let evaluate = { [inputs, log] in
      try Trace.span("evaluation", .compute) {
        try inputs.evaluations.run(model, averaged: averaged, at: done, over: inputs.ranks, log)
      }
    }
    do {
      // A model that is being pruned is evaluated as what it would be cut to.
      if let pruning = state.step.hooks.pruning { try pruning.withExpected(evaluate) } else { try evaluate() }
      return nil
    } catch let interruption as StopRequest.Interruption { return interruption.signal }
  }
}
