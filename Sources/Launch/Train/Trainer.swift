import Dist
import Foundation
import Model
import Tensor

/// A run from its file to its last checkpoint.
struct Trainer {
  let run: RunConfig
  let ranks: Communicator

  /// Builds the parts and trains; with `dryRun`, only says what would be done. Returns the exit code: 0, or 75 after a
  /// signal, when all is saved and the run can go on.
  func train(resume: Resume?, dryRun: Bool) throws -> Int32 {
    try requireSame("run", "\(run.yaml)resume: \(String(describing: resume)), dry run: \(dryRun)")
    let plan = try ThreadPlan.agreed(over: ranks)
    plan.apply()
    if dryRun, let absent = try AbsentFiles(run, over: ranks) {
      try DryRun(run: run, ranks: ranks, plan: plan, absent: absent).say()
      return 0
    }
    let vocabulary = try Vocabulary(contentsOf: run.vocabulary)
    let whole = try run.model.resolved(for: vocabulary, path: run.vocabulary)
    var notes: [String] = []
    let checkpoint = dryRun ? nil : try Checkpoints.find(resume, of: run, over: ranks) { notes.append($0) }
    let pruning = Pruning(run)
    let config = try pruning?.config(whole, in: checkpoint) ?? whole
    try run.checkStatistics(of: config, ranks: ranks.size)
    let tokenizer = BytePairTokenizer(vocabulary: vocabulary, context: config.text.contextLength)
    // One rank reads every byte; what it finds stops all.
    let check: Corpus.Check = run.data.verify == .checksums && ranks.rank == 0 && !dryRun ? .checksums : .sizes
    let teacher = try TeacherModel(run, over: ranks)
    try requireSame("teacher", teacher?.identity ?? "")
    let data = try TrainingData(
      run, imageSize: config.vision.imageSize, tokenizer: tokenizer,
      teacher: run.teacher?.cache == nil ? teacher?.input : nil, check: check)
    let cached = try teacher.flatMap { try CachedTeacher($0, run, data.corpora, checking: !dryRun, over: ranks) }
    let evaluations = try TrainingEvaluations(run, imageSize: config.vision.imageSize, tokenizer: tokenizer)
    try requireSame("vocabulary", SavedRun.sha256(of: run.vocabulary))
    try requireSame("model", String(decoding: config.json, as: UTF8.self))
    for corpus in data.corpora { try requireSame("corpus \(corpus.name)", corpus.fingerprint) }
    let steps = run.steps ?? (run.epochs ?? 1) * data.sampler.stepsPerEpoch
    try pruning?.check(whole, steps: steps)
    let (model, objective) = CLIP<Float>.student(
      config, run.objective.declared, teacherWidth: teacher?.config.embedding)
    var header = RunHeader(
      run: run, config: config, parameters: model.parameters, teacher: teacher.map { .init($0) },
      corpora: data.corpora.map { ($0.name, $0.count) }, sampler: data.sampler, steps: steps, plan: plan, ranks: ranks)
    if dryRun {
      if let pruning { header.notes.append(pruning.text) }
      if resume == nil, let inherited = try inherited(by: config) { header.notes.append(inherited.text) }
      try header.say()
      return 0
    }

    var optimizer = run.optimizer.resolved(
      visionTransformer: config.vision.stages == nil, objective: run.objective.preset)
    if let pruning { optimizer.warmup = pruning.config.step }
    var step = try prepare(model, objective, optimizer)
    if let pruning, !pruning.isCut(after: checkpoint?.manifest.record.step ?? 0) {
      step.pruning = pruning.masks(of: model)
    }
    let weights = try cached == nil ? teacher.map { try TeacherWeights($0, over: ranks) } : nil
    let source: (any TeacherSource)? =
      cached ?? weights.map { LiveTeacher($0.model, micro: teacher?.micro, spread: $0.spread) }
    let checkpoints = try Checkpoints(run: run, step: step, teacher: teacher?.saved, ranks: ranks)
    let start = try checkpoint.map { try checkpoints.restore($0) { notes.append($0) } } ?? 0
    guard start <= steps else { throw RunPastEnd(done: start, steps: steps) }
    let inherited = start == 0 ? try inherited(by: config) : nil
    if start == 0 {
      model.initialize(seed: run.seed)
      try inherited?.apply(to: model)
    }
    let folder = try RunFolder.prepare(run, resuming: resume != nil, over: ranks)
    if let weights { header.notes.append(weights.text) }
    if let pruning { header.notes.append(pruning.text) }
    try header.say()
    let log = try RunLog(
      in: folder.url, every: run.log.every, scheduled: run.objective.scheduledTerms, from: start,
      changes: folder.changes, over: ranks)
    for note in notes { log.say(note) }
    if let inherited { try log.note(inherited.text, at: start) }
    if start > 0 { log.say("going on after step \(start)") }
    StopRequest.listen()
    let code = try loop(
      &step, source, optimizer.schedule(steps: steps), data, start..<steps, plan, log, checkpoints, evaluations
    ) { try cut($0, optimizer, teacherWidth: teacher?.config.embedding, at: $1, log) }
    if let spread = weights?.spread { log.say(try spread.text(over: ranks)) }
    if code == 0 {
      try step.settle()
      try export(step.model, log)
    }
    return code
  }

  /// Makes memory for a model and what trains it.
  private func prepare(_ model: CLIP<Float>, _ objective: Objective<Float>, _ optimizer: OptimizerConfig) throws
    -> Step<Float>
  {
    model.parameters.allocate(gradients: true)
    if run.model.syncBatchNorm { model.visual.synchronize(over: JobRanks(communicator: ranks)) }
    return try Step(
      model, objective, optimizer.options, clipNorm: optimizer.clipNorm, micro: run.batch.micro, reduce: run.reduce,
      communicator: ranks)
  }

  /// What trains the model that the masks leave, with an optimizer that begins anew. It is the same on every rank.
  private func cut(
    _ step: Step<Float>, _ optimizer: OptimizerConfig, teacherWidth: Int?, at done: Int, _ log: RunLog
  ) throws -> Step<Float> {
    guard let pruning = step.pruning else { return step }
    let masks = pruning.masks
    let (model, objective) = CLIP<Float>.student(
      pruning.masked.cutConfig(masks.expected), run.objective.declared, teacherWidth: teacherWidth)
    try step.settle()
    let smaller = try prepare(model, objective, optimizer)
    pruning.masked.cut(masks.expected, into: model)
    try log.note(Pruning.text(step.model, model, masks.sparsity(of: masks.expected)), at: done)
    return smaller
  }

  private func loop(
    _ step: inout Step<Float>, _ teacher: (any TeacherSource)?, _ schedule: Schedule, _ data: TrainingData,
    _ steps: Range<Int>, _ plan: ThreadPlan,
    _ log: RunLog, _ checkpoints: Checkpoints, _ evaluations: TrainingEvaluations,
    cut: (Step<Float>, _ done: Int) throws -> Step<Float>
  ) throws -> Int32 {
    var checkpoints = checkpoints
    let rows = ranks.slice(of: run.batch.global)
    let loader = data.loader(steps: steps, rows: rows, workers: run.data.workers ?? plan.loaders)
    for number in steps {
      let begin = ContinuousClock.now
      if step.pruning != nil, number == run.prune?.step {
        step = try cut(step, number)
        checkpoints = try checkpoints.of(step)
      }
      let before = loader.waited
      guard let batch = try loader.next() else { break }
      let rate = schedule.rate(at: number)
      step.objective.options = run.objective.options(at: number)
      var teacherSeconds: Double?
      if let teacher {
        var seconds = 0.0
        try clock(&seconds) {
          let place = step.objective.teacherRows(rows, of: run.batch.global)
          try teacher.embed(batch, image: place.image, text: place.text)
        }
        teacherSeconds = seconds
      }
      let outcome = try step.run(
        images: batch.student.images, captions: batch.student.captions, rows: rows, count: run.batch.global,
        rate: rate, teacherScale: teacher?.scale)
      loader.recycle(batch)

      let done = number + 1
      try log.record(
        StepReport(
          step: done, steps: steps.upperBound, epoch: Double(done) / Double(data.sampler.stepsPerEpoch),
          objective: outcome.report, rate: rate, logitScale: outcome.logitScale, clamped: outcome.clamped,
          gradientNorm: outcome.gradientNorm, received: outcome.received, pruning: outcome.pruning,
          samples: run.batch.global, seconds: (ContinuousClock.now - begin) / .seconds(1),
          dataSeconds: loader.waited - before, teacherSeconds: teacherSeconds))
      let stop = done < steps.upperBound ? try StopRequest.agreed(over: ranks) : nil
      if done % run.checkpoint.every == 0 || done == steps.upperBound || stop != nil { try checkpoints.save(done, log) }
      if let stop {
        log.say("stopped by \(stop) after step \(done); go on with --resume latest")
        return 75
      }
      if done == steps.upperBound || run.evaluate.every.map({ done % $0 == 0 }) ?? false {
        try step.settle()
        let evaluate = { [model = step.model] in try evaluations.run(model, at: done, over: ranks, log) }
        // A model that is being pruned is evaluated as what it would be cut to.
        if let pruning = step.pruning { try pruning.withExpected(evaluate) } else { try evaluate() }
      }
    }
    return 0
  }

  /// The model that the run file inherits from; the same on every rank.
  private func inherited(by student: CLIPConfig) throws -> InheritedModel? {
    let inherited = try InheritedModel(run, student: student, over: ranks)
    try requireSame("model to inherit from", inherited?.sha256 ?? "")
    return inherited
  }

  /// Ranks that were told or hold different things would wait for each other in different collectives, or train on
  /// what no run file says: each rank may have its own disk.
  private func requireSame(_ what: String, _ text: String) throws {
    try ranks.requireSame(what, text)
  }

  /// Rank 0 leaves the trained model in open_clip's form in the run's folder.
  private func export(_ model: CLIP<Float>, _ log: RunLog) throws {
    guard ranks.rank == 0 else { return }
    try ModelFiles.write(model, preprocessing: run.image.options(size: model.config.vision.imageSize), to: run.folder)
    log.say("the model in open_clip's form: \(run.folder.appending(path: ModelFiles.weights).relativePath)")
  }
}

extension Communicator {
  /// Refuses ranks that hold another `text` than rank 0. Every rank must call it.
  func requireSame(_ what: String, _ text: String) throws {
    let all = try allGather([UInt8](text.utf8))
    if let other = all.firstIndex(where: { $0 != all[0] }) { throw RanksDiffer(rank: other, what: what) }
  }
}

/// Not all ranks were told the same, or have the same files.
struct RanksDiffer: ExitCoded, CustomStringConvertible {
  let rank: Int
  let what: String

  var exitCode: Int32 { what == "run" ? 64 : 65 }
  var description: String {
    what == "run"
      ? "rank \(rank) was told another run than rank 0: start all with the same run file, --set, --resume and --dry-run"
      : "rank \(rank) has another \(what) than rank 0: copy the same files to all nodes"
  }
}

/// A run that has gone further than its file wants.
struct RunPastEnd: ExitCoded, CustomStringConvertible {
  let done: Int
  let steps: Int

  var exitCode: Int32 { 64 }
  var description: String {
    "the checkpoint has \(done) steps done and the run has \(steps): raise steps or epochs, or resume from an earlier one"
  }
}

extension OptimizerConfig {
  /// The same in the words of Model; after `resolved`.
  var options: AdamW<Float>.Options {
    AdamW<Float>.Options(
      decay: weightDecay, beta1: betas?[0] ?? 0.9, beta2: betas?[1] ?? 0.98, epsilon: eps ?? 1e-6,
      rule: decay == .legacy ? .legacy : .current,
      headDecay: headDecay)
  }

  func schedule(steps: Int) -> Model.Schedule {
    Model.Schedule(shape: schedule == .cosine ? .cosine : .constant, base: rate, warmup: warmup, total: steps)
  }
}
