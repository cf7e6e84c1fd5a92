import Dist
import Foundation
import Model
import Tensor

/// Carries out a run, from the run file to the last checkpoint and the exported model.
struct Trainer {
  let run: RunConfig
  let ranks: Communicator
  /// The processors for which a run is planned; nil: those of the ranks.
  var processors: [RankProcessor]?
  var precision: [String] = []
  /// True to resume although the datasets at the run's paths are not those of the checkpoint.
  var acceptsChanges = false

  /// Trains; with `dryRun`, only prints what the run would be. Every rank must call it. `trace` is the prefix of the
  /// trace files. Returns `done`, or `tryAgain` after a signal, with everything saved.
  func train(resume: Resume?, dryRun: Bool, trace: String? = nil) throws -> ExitStatus {
    try ranks.requireSame("program", Machine.programSHA256, advice: "copy the same build of kinship to all nodes")
    let resumes = "resume: \(String(describing: resume)), accept changes: \(acceptsChanges)"
    try ranks.requireSameStart("\(run.yaml)\(resumes), dry run: \(dryRun), trace: \(trace ?? "none")")
    let plan = try ThreadPlan.agreed(over: ranks)
    try plan.apply()
    if dryRun {
      try RunHeader(decided().preview(resume, plan), over: ranks).print(isResult: true)
      return .done
    }
    var lock = try RunFolder.lock(run, over: ranks)
    var notes = [lock?.note].compactMap { $0 }
    let checkpoint = try Checkpointing.find(resume, of: run, over: ranks) { notes.append($0) }
    let status = try decided(resuming: checkpoint)
      .train(from: checkpoint, resume, plan, lock: &lock, notes: notes, trace: trace)
    lock?.release()
    Staging.release()
    return status
  }

  private func decided(resuming checkpoint: Checkpoint? = nil) throws -> Trainer {
    let decided = try DecidedRun(run, resuming: checkpoint, on: processors, over: ranks)
    return Trainer(
      run: decided.run, ranks: ranks, processors: processors, precision: decided.precision,
      acceptsChanges: acceptsChanges)
  }

  /// Trains a run whose precision is decided. `notes` are lines about the checkpoint, which the log will print.
  private func train(
    from checkpoint: Checkpoint?, _ resume: Resume?, _ plan: ThreadPlan, lock: inout FolderLock?, notes: [String],
    trace: String?
  ) throws -> ExitStatus {
    var notes = notes
    var inputs: TrainingInputs
    let done = checkpoint?.manifest.record.step ?? 0
    do {
      inputs = try TrainingInputs(run, checking: true, acceptsChanges: acceptsChanges, over: ranks)
      try self.preview(of: inputs, inputs.config(in: checkpoint), plan, after: done).shape.requireMemory(over: ranks)
      try inputs.loadTeacher()
      try StopRequest.check(over: ranks)
    } catch let stop as StopRequest.Interruption {
      // No folder has been created yet, so the same command can simply be started again.
      if ranks.rank == 0 { StandardOutput.show(RunLog.stopped(by: stop.signal, after: 0)) }
      return .tryAgain
    }
    var preview = try preview(of: inputs, inputs.config(in: checkpoint), plan, after: done)
    // The estimate is for the precision that is computed: fp32 if a processor has no products in bf16.
    preview.shape.run.precision = PrecisionChoice(inputs.precision.used)
    if let teacher = inputs.teacher { preview.shape.run.teacher?.precision = PrecisionChoice(teacher.precision.used) }
    let weights = inputs.weights
    preview.shape.measureProgram(beside: weights, over: ranks)
    let teacher: (any TeacherSource)? =
      inputs.cached
      ?? weights.map { LiveTeacher($0.model, microBatchSize: inputs.teacher?.microBatchSize, sharded: $0.sharded) }
    let state = try TrainState(inputs, from: checkpoint) { notes.append($0) }
    if resume == .fresh { notes.append(try RunFolder.setAside(run, over: ranks)) }
    if let warning = try state.checkpointing.checkSpace(state.startStep..<inputs.steps) { notes.append(warning) }
    let changes = try RunFolder.create(run, resuming: resume != nil, lock: &lock, over: ranks)
    preview.notes += [weights?.text, inputs.pruning?.text].compactMap { $0 }
    let facts = try RunHeader(preview, over: ranks).print()
    let log = try RunLog(
      in: run.folder, run.log, scheduled: run.objective.scheduledTerms, from: state.startStep, changes: changes,
      over: ranks)
    try log.record(facts, at: state.startStep)
    for note in notes { log.print(note) }
    if let initialization = state.initialization { try log.note(initialization.text, at: state.startStep) }
    if state.startStep > 0 { log.print("going on after step \(state.startStep)") }
    // The loop alone holds the state, or a model that was cut would keep its memory to the end of the run.
    let loop = TrainLoop(
      inputs, consume state, teacher: teacher, loaders: run.data.workers ?? plan.loaders, log: log)
    if let trace { try Trace.start(trace, over: ranks) }
    let stop = try loop.train()
    try Trace.flush()
    if let sharded = weights?.sharded { log.print(try sharded.text(over: ranks)) }
    if stop != nil { return .tryAgain }
    let outcome = try Outcome(preview.shape, seconds: loop.seconds, shared: weights?.shared ?? 0, over: ranks)
    if let outcome { try log.record(outcome, at: loop.done) }
    try export(loop.currentModel(), to: run.folder, log)
    if let average = try loop.averagedModel() { try export(average, to: RunFolder.average(of: run), log) }
    if let best = loop.best?.best {
      let name = run.folder.appending(path: "best").relativePath
      try log.note("the best checkpoint is \(name), of step \(best.step): \(best.text)", at: loop.done)
    }
    return .done
  }

  /// Previews a run that is only planned. Every rank must call it.
  func preview() throws -> RunPreview {
    let plan = try ThreadPlan.agreed(over: ranks)
    try plan.apply()
    var preview = try decided().preview(nil, plan)
    preview.shape.measureProgram(beside: nil, over: ranks)
    return preview
  }

  private func preview(_ resume: Resume?, _ plan: ThreadPlan) throws -> RunPreview {
    if let dryRun = try DryRun(run, plan, over: ranks) {
      var preview = try dryRun.preview()
      preview.precision = precision
      return preview
    }
    let inputs = try TrainingInputs(run, checking: false, over: ranks)
    var preview = try preview(of: inputs, inputs.sizes, plan)
    if let pruning = inputs.pruning { preview.notes.append(pruning.text) }
    if resume == nil, let initialization = try inputs.initialization(for: inputs.sizes) {
      preview.notes.append(initialization.text)
    }
    return preview
  }

  /// Previews a run with a model of these sizes, which has `done` steps behind it.
  private func preview(
    of inputs: TrainingInputs, _ config: CLIPConfig, _ plan: ThreadPlan, after done: Int = 0
  ) throws -> RunPreview {
    // A teacher with a cache computes no products.
    let computed = inputs.cached == nil ? inputs.teacher?.precision : nil
    var products = [inputs.precision, computed].compactMap { $0 }
    if let processors { products = [ProductPrecision(run.precision.used, on: processors)] }
    var teacher = inputs.teacher.map { RunPreview.Teacher($0) } ?? inputs.cached.map { RunPreview.Teacher($0) }
    teacher?.arithmetic = inputs.cached?.arithmetic
    let shape = RunShape(
      run: run, config: config, parameters: inputs.student(config).0.parameters, teacher: teacher?.shape,
      frozen: inputs.frozen, ensemble: inputs.ensemble.shapes.map(\.width),
      captions: inputs.data.captions(about: 1024), threads: plan.compute, done: done,
      nodes: try NodeMap(over: ranks))
    try shape.requireCountable(batch: run.batch.global)
    return RunPreview(
      shape: shape, teacher: teacher, datasets: inputs.data.datasets.map { ($0.name, $0.count) },
      sampler: inputs.data.sampler, steps: inputs.steps, plan: plan, precision: precision,
      arithmetic: inputs.arithmetic,
      notes: [
        run.ema?.text, inputs.ensemble.text(inputs.cached, run.objective), inputs.precision.note,
        run.batch.recompute.note, config.vision.dropoutNote(isFrozen: inputs.frozen.image),
        inputs.teacher?.precision.note.map { "teacher's \($0)" }, inputs.data.captionsNote,
        run.evaluate.text(inputs.evaluations.metric),
      ].compactMap { $0 } + inputs.evaluations.notes, warnings: products.flatMap(\.warnings),
      stage: inputs.stage?.text, retrievals: inputs.evaluations.retrievals)
  }

  /// Writes a model in open_clip's form into a folder, on rank 0.
  private func export(_ model: CLIP<Float>, to folder: URL, _ log: RunLog) throws {
    guard ranks.rank == 0 else { return }
    try Publish.makeFolder(folder.path(percentEncoded: false))
    try ModelFiles.write(model, preprocessing: run.image.sized(model.config.vision.imageSize), to: folder)
    log.print("the model in open_clip's form: \(folder.appending(path: ModelFiles.weights).relativePath)")
  }
}
