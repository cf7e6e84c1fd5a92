import Dist
import Foundation
import Model
import Tensor

/// A run from its file to its last checkpoint.
struct Trainer {
  let run: RunConfig
  let ranks: Communicator
  /// The processors that a plan is for, where they are others than those under the ranks.
  var processors: [RankProcessor]?
  /// What the header says of `precision: auto`, once that is decided.
  private(set) var precision: [String] = []

  init(run: RunConfig, ranks: Communicator, processors: [RankProcessor]? = nil) {
    self.run = run
    self.ranks = ranks
    self.processors = processors
  }

  /// Builds the parts and trains; with `dryRun`, only says what would be done. Returns the exit code: 0, or 75 after a
  /// signal, when all is saved and the run can go on.
  /// `trace` is the prefix of the files in which each rank says what it does when.
  func train(resume: Resume?, dryRun: Bool, trace: String? = nil) throws -> ExitStatus {
    try ranks.requireSame("program", Machine.programSHA256)
    try ranks.requireSame(
      "run", "\(run.yaml)resume: \(String(describing: resume)), dry run: \(dryRun), trace: \(trace ?? "none")")
    Watchdog.start(deadline: run.watchdog.deadline, over: ranks)
    let plan = try ThreadPlan.agreed(over: ranks)
    plan.apply()
    if dryRun {
      try decided().preview(resume, plan).print()
      return .done
    }
    var notes: [String] = []
    let checkpoint = try Checkpoints.find(resume, of: run, over: ranks) { notes.append($0) }
    return try decided(resuming: checkpoint).train(
      from: checkpoint, isResumed: resume != nil, plan, notes: notes, trace: trace)
  }

  /// The trainer of the run without any `precision: auto`. Every rank must call it.
  private func decided(resuming checkpoint: Checkpoint? = nil) throws -> Trainer {
    let decided = try DecidedRun(run, resuming: checkpoint, on: processors, over: ranks)
    var trainer = Trainer(run: decided.run, ranks: ranks, processors: processors)
    trainer.precision = decided.precision
    return trainer
  }

  /// Trains a run whose precision is decided. `notes` are what the log has to say of the checkpoint.
  private func train(
    from checkpoint: Checkpoint?, isResumed: Bool, _ plan: ThreadPlan, notes: [String], trace: String?
  ) throws -> ExitStatus {
    var notes = notes
    let inputs: TrainingInputs
    do {
      inputs = try TrainingInputs(run, checking: true, over: ranks)
      try StopRequest.check(over: ranks)
    } catch let stop as StopRequest.Interruption {
      // Nothing is left behind that would stand in a new start's way.
      if ranks.rank == 0 {
        FileHandle.standardOutput.write(Data("\(RunLog.stopped(by: stop.signal, after: 0))\n".utf8))
      }
      return .tryAgain
    }
    var header = try header(inputs, inputs.config(in: checkpoint), plan)
    // What is foretold is of what is computed, which is exact where a processor has no rounded products.
    header.run.precision = PrecisionChoice(inputs.precision.used)
    if let teacher = inputs.teacher { header.run.teacher?.precision = PrecisionChoice(teacher.precision.used) }
    let weights = inputs.weights
    header.measureProgram(beside: weights)
    let source: (any TeacherSource)? =
      inputs.cached
      ?? weights.map { LiveTeacher($0.model, microBatchSize: inputs.teacher?.microBatchSize, sharded: $0.sharded) }
    let teachers = source.map { Teachers(first: $0, further: inputs.further) }
    let state = try TrainState(inputs, from: checkpoint) { notes.append($0) }
    let folder = try RunFolder.prepare(run, resuming: isResumed, over: ranks)
    if let weights { header.notes.append(weights.text) }
    if let pruning = inputs.pruning { header.notes.append(pruning.text) }
    let facts = try header.print()

    let log = try RunLog(
      in: folder.url, run.log, scheduled: run.objective.scheduledTerms, from: state.start,
      changes: folder.changes, over: ranks)
    try log.record(facts, at: state.start)
    for note in notes { log.print(note) }
    if let first = state.first { try log.note(first.text, at: state.start) }
    if state.start > 0 { log.print("going on after step \(state.start)") }
    let loop = TrainingLoop(inputs, state, teachers: teachers, loaders: run.data.workers ?? plan.loaders, log: log)
    if let trace { try Trace.start(trace, over: ranks) }
    let stop = try loop.train()
    try Trace.flush()
    if let sharded = weights?.sharded { log.print(try sharded.text(over: ranks)) }
    if stop != nil { return .tryAgain }
    let outcome = try Outcome(header, seconds: loop.seconds, shared: weights?.shared ?? 0, over: ranks)
    if let outcome { try log.record(outcome, at: inputs.steps) }
    try export(loop.currentModel(), to: run.folder, log)
    if let average = try loop.averagedModel() { try export(average, to: RunFolder.average(of: run), log) }
    return .done
  }

  /// The header alone, for a run that does not begin. Every rank must call it.
  func preview() throws -> RunHeader {
    let plan = try ThreadPlan.agreed(over: ranks)
    plan.apply()
    var header = try decided().preview(nil, plan)
    header.measureProgram(beside: nil)
    return header
  }

  private func preview(_ resume: Resume?, _ plan: ThreadPlan) throws -> RunHeader {
    if let absent = try AbsentFiles(run, over: ranks) {
      var header = try DryRun(run: run, ranks: ranks, plan: plan, absent: absent).header()
      header.precision = precision
      return header
    }
    let inputs = try TrainingInputs(run, checking: false, over: ranks)
    var header = try header(inputs, inputs.sizes, plan)
    if let pruning = inputs.pruning { header.notes.append(pruning.text) }
    if resume == nil, let first = try inputs.initialization(for: inputs.sizes) { header.notes.append(first.text) }
    return header
  }

  private func header(_ inputs: TrainingInputs, _ config: CLIPConfig, _ plan: ThreadPlan) throws -> RunHeader {
    // Embeddings from a cache take no products.
    let computed = inputs.cached == nil ? inputs.teacher?.precision : nil
    var products = [inputs.precision, computed].compactMap { $0 }
    if let processors { products = [ProductPrecision(run.precision.used, on: processors)] }
    return RunHeader(
      run: run, config: config, parameters: inputs.student(config).0.parameters,
      teacher: inputs.teacher.map { .init($0) },
      datasets: inputs.data.datasets.map { ($0.name, $0.count) }, sampler: inputs.data.sampler, steps: inputs.steps,
      plan: plan, ranks: ranks, frozen: inputs.frozen, ensemble: inputs.further.shapes.map(\.width),
      captions: inputs.data.captions(about: 1024),
      notes: [
        run.ema?.text, inputs.further.text(inputs.teacher, run.objective), inputs.precision.note,
        run.batch.recompute.note,
        inputs.teacher?.precision.note.map { "teacher's \($0)" },
      ].compactMap { $0 },
      warnings: products.flatMap(\.warnings), precision: precision)
  }

  /// Rank 0 leaves a model in open_clip's form in a folder.
  private func export(_ model: CLIP<Float>, to folder: URL, _ log: RunLog) throws {
    guard ranks.rank == 0 else { return }
    try Publish.makeFolder(folder.path(percentEncoded: false))
    try ModelFiles.write(model, preprocessing: run.image.sized(model.config.vision.imageSize), to: folder)
    log.print("the model in open_clip's form: \(folder.appending(path: ModelFiles.weights).relativePath)")
  }
}
