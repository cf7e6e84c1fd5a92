import Dist
import Foundation
import Model
import Settings
import Tensor

/// Everything that a run reads before there is a model to train. It must be the same on every rank.
struct TrainingInputs {
  let run: RunConfig
  let ranks: Communicator
  /// The model's sizes in the run file; a model that was pruned has others.
  let sizes: CLIPConfig
  let pruning: Pruning?
  let frozen: Frozen
  private(set) var teacher: TeacherModel?
  /// The weights of a teacher that computes its embeddings during training; nil until they are read.
  private(set) var weights: TeacherWeights?
  let cached: CachedTeacher?
  let ensemble: Ensemble
  /// The caches with the boxes of the crops, one for each dataset; nil if crops are drawn.
  let crops: [TeacherCache]?
  let data: TrainingData
  /// The copies of the data on the nodes' own disks; nil if there are none.
  let stage: DataStage?
  let evaluations: TrainingEvaluations
  let steps: Int
  /// The optimizer's settings, with `auto` replaced.
  let optimizer: OptimizerConfig
  let precision: ProductPrecision
  /// The arithmetic of the student: one if all ranks have the same, else each rank's.
  let arithmetic: [Arithmetic]
  /// True if the run may resume although the datasets at its paths are not those of the checkpoint.
  let acceptsChanges: Bool

  /// Opens and checks all inputs; with `checking`, files' checksums too, but that of a teacher whose weights are read.
  /// Every rank must call it. Throws `StopRequest.Interruption` if the run is to stop before it has begun.
  init(_ run: RunConfig, checking: Bool, acceptsChanges: Bool = false, over ranks: Communicator) throws {
    (self.run, self.ranks, self.acceptsChanges) = (run, ranks, acceptsChanges)
    precision = try ProductPrecision.agreed(run.precision.used, over: ranks)
    arithmetic = try ranks.arithmetic(precision.used)
    let vocabulary = try Vocabulary(contentsOf: run.vocabulary)
    try ranks.requireSameFile("vocabulary", run.vocabulary)
    sizes = try run.model.resolved(for: vocabulary, path: run.vocabulary).trained(by: run.objective)
    try ranks.requireSame("model", String(decoding: sizes.json, as: UTF8.self))
    try run.checkStatistics(of: sizes, ranks: ranks.size)
    frozen = try run.frozen(in: CLIP<Float>.layout(sizes))
    let tokenizer = BytePairTokenizer(vocabulary: vocabulary, context: sizes.text.contextLength)
    let isLoaded = checking && run.teacher?.cache == nil
    var teacher = try TeacherModel(run, over: ranks, checksum: isLoaded ? .whenRead : .now)
    try ranks.requireSame("teacher", teacher?.identity ?? "")
    if isLoaded { try teacher?.requireFit() }
    var data = try TrainingData(
      run, sizes.vision, tokenizer: tokenizer,
      teacher: run.teacher?.cache == nil ? teacher?.input : nil, over: ranks)
    try teacher?.keepAlpha(ofCacheOf: data.datasets, over: ranks)
    // Copies are checked as they are made.
    let verifies = checking && run.data.stage == nil
    cached = try CachedTeacher(teacher, run, data.datasets, checking: verifies, over: ranks)
    ensemble = try Ensemble(run, data.datasets, checking: verifies, over: ranks)
    try run.optimizer.checkGroups(
      in: CLIP<Float>.student(
        sizes, run.objective, teacherWidth: teacher?.config.embedding ?? cached?.width,
        others: ensemble.shapes
      ).model.parameters)
    evaluations = try TrainingEvaluations(
      run, sizes.vision, tokenizer: tokenizer, teacher: teacher, checking: checking, over: ranks)
    stage = try DataStage(
      run.data, &data, [cached].compactMap { $0 } + ensemble.caches, copying: checking, over: ranks)
    crops = try ensemble.crops(with: cached)
    if checking, run.data.verify == .checksums {
      try Dataset.verify(data.datasets, over: ranks) { try StopRequest.check(over: ranks) }
    }
    self.data = data
    steps = try run.totalSteps(data.sampler)
    pruning = Pruning(run)
    try pruning?.check(sizes, steps: steps)
    var optimizer = run.optimizer.resolved(
      visionTransformer: sizes.vision.stages == nil, objective: run.objective.preset)
    if let pruning { optimizer.warmup = pruning.config.step }
    self.optimizer = optimizer
    self.teacher = teacher
  }

  /// Reads the weights of a teacher without a cache, which takes long if it is large. Every rank must call it.
  mutating func loadTeacher() throws { if cached == nil { weights = try teacher?.load(over: ranks) } }

  func config(in checkpoint: Checkpoint?) throws -> CLIPConfig { try pruning?.config(sizes, in: checkpoint) ?? sizes }

  /// Returns a model of these sizes with the objective that trains it, both without memory.
  func student(_ config: CLIPConfig) -> (CLIP<Float>, Objective<Float>) {
    CLIP<Float>.student(
      config, run.objective, teacherWidth: teacher?.config.embedding ?? cached?.width, others: ensemble.shapes,
      precision: precision.used, recompute: run.batch.recompute)
  }

  var schedule: Schedule { optimizer.schedule(steps: steps) }

  /// The datasets on which the run trains and evaluates, as its checkpoints store them.
  var savedDatasets: [SavedDataset] {
    let paths = run.data.datasets.map(\.path) + run.evaluate.evaluations.map(\.dataset)
    return zip(paths, data.datasets + evaluations.datasets).map { SavedDataset(path: $0, fingerprint: $1.fingerprint) }
  }
}

extension ModelConfig {
  func readSizes() throws -> CLIPConfig {
    do { return try resolved() } catch let error as FileError {
      throw UserError("model", "\(error)", status: error.status)
    } catch { throw UserError("model", (file.map { "\($0): " } ?? "") + "\(error)") }
  }

  /// Returns the model's sizes as `CLIPConfig.fitted` does.
  func resolved(for vocabulary: Vocabulary, path: String) throws -> CLIPConfig {
    try readSizes().fitted(to: vocabulary, path: path)
  }
}

extension CLIPConfig {
  /// Returns the sizes with the size of `vocabulary` in place of 0. Throws a `UserError` for a vocabulary of another
  /// size, and for one of bytes alone unless the model names its size.
  func fitted(to vocabulary: Vocabulary, path: String) throws -> CLIPConfig {
    var config = self
    guard config.text.vocabularySize > 0 || vocabulary.mergeCount > 0 else {
      throw UserError(
        path,
        "has \(vocabulary.size) tokens, of single bytes, with which a caption is cut after a few words; give a "
          + "vocabulary with merges, or set text_cfg.vocab_size to \(vocabulary.size) if bytes are intended")
    }
    if config.text.vocabularySize == 0 { config.text.vocabularySize = vocabulary.size }
    guard config.text.vocabularySize == vocabulary.size else {
      throw UserError(
        "model",
        "vocab_size is \(config.text.vocabularySize) and the vocabulary \(path) has \(vocabulary.size) tokens; give "
          + "the model's own vocabulary, or set text_cfg.vocab_size to \(vocabulary.size), or to 0 for as many as the "
          + "vocabulary has")
    }
    return config
  }
}

extension RunConfig {
  /// Returns the number of steps. Throws a `UserError` if the samples of them all are more than a run can draw.
  func totalSteps(_ sampler: Sampler) throws -> Int {
    let total = steps.map { Checked($0) } ?? Checked(epochs ?? 1) * Checked(sampler.stepsPerEpoch)
    if let count = total.value, total * Checked(batch.global) <= Sampler.mostSamples { return count }
    throw UserError(
      "the steps of this run draw more than 2⁵³ samples, at \(batch.global) a step: lower steps or epochs",
      status: .usage)
  }

  /// Refuses `sync_bn` without batch norm, and batch norm without it where a rank would have no images.
  func checkStatistics(of config: CLIPConfig, ranks: Int) throws {
    if config.vision.stages == nil, model.syncBatchNorm {
      throw UserError("model", "sync_bn is true, and a vision transformer has no batch norm; leave sync_bn out")
    }
    if config.vision.stages != nil, !model.syncBatchNorm, batch.global < ranks {
      throw UserError(
        "batch.global is \(batch.global) and there are \(ranks) ranks: batch norm needs images on each "
          + "of them; raise batch.global to \(ranks) or more, or set model.sync_bn to true")
    }
  }
}

/// A run with every `precision: auto` decided. A resumed run keeps its own, a teacher with a cache its cache's; a run
/// also keeps the handling of transparency that its live teacher had.
struct DecidedRun: Equatable {
  var run: RunConfig
  /// The header's lines about the keys that were `auto`.
  var precision: [String] = []

  /// Decides for all ranks' processors, in order. `recorded` are a resumed run's settings by their dotted paths.
  init(_ run: RunConfig, on ranks: [RankProcessor], recorded: [String: String] = [:]) {
    self.run = run
    let decision = PrecisionDecision(on: ranks)
    func kept(_ key: String) -> PrecisionDecision {
      decision.keeping(recorded[key].flatMap(ComputePrecision.init(rawValue:)), of: "the run", on: ranks)
    }
    if run.precision == .auto {
      let decision = kept("precision")
      self.run.precision = PrecisionChoice(decision.used)
      precision.append(decision.text)
    }
    guard let teacher = run.teacher, run.usesTeacher else { return }
    if teacher.precision == .auto, teacher.cache == nil {
      let sharded = PrecisionDecision(used: .fp32, reason: "sharded weights are not rounded")
      let decision = teacher.placement == .sharded ? sharded : kept("teacher.precision")
      self.run.teacher?.precision = PrecisionChoice(decision.used)
      precision.append(precision == [decision.text] ? "the teacher's likewise" : "the teacher's \(decision.text)")
    }
    switch run.teachers.count(where: { $0.precision == .auto && $0.cache != nil }) {
    case 0: break
    case 1: precision.append("the teacher's as its cache has it")
    default: precision.append("the teachers' as their caches have them")
    }
  }

  /// Decides for the given processors, or for those of the ranks, and keeps to the settings of a checkpoint from which
  /// the run resumes. Every rank must call it.
  init(
    _ run: RunConfig, resuming checkpoint: Checkpoint? = nil, on processors: [RankProcessor]? = nil,
    over ranks: Communicator
  ) throws {
    let recorded = try checkpoint.map { try SavedRun($0).settings } ?? [:]
    let run = try run.keepingAlpha(recorded, over: ranks)
    guard run.precision == .auto || run.teachers.contains(where: { $0.precision == .auto }) else {
      self.init(run, on: [])
      return
    }
    self.init(run, on: try processors ?? RankProcessor.all(over: ranks), recorded: recorded)
    try ranks.requireSame("precision", precision.joined(separator: "\n"))
  }

  /// Decides for `kinship precompute`, where a teacher has a cache. A cache that was begun keeps its precision.
  init(precomputing run: RunConfig, on ranks: [RankProcessor], begun: ComputePrecision?) {
    self.run = run
    guard let teacher = run.teacher, teacher.precision == .auto else { return }
    let decision = PrecisionDecision(on: ranks).keeping(begun, of: "the cache", on: ranks)
    self.run.teacher?.precision = PrecisionChoice(decision.used)
    precision = ["the teacher's \(decision.text)"]
  }
}

extension RunConfig {
  /// Returns the run with the handling of transparency that its live teacher had in the run that it resumes, whose
  /// settings are `recorded` by their dotted paths, unless the run file names one now. If there are `ranks`, all must
  /// call it.
  func keepingAlpha(_ recorded: [String: String], over ranks: Communicator? = nil) throws -> RunConfig {
    guard usesTeacher, let teacher, teacher.cache == nil, teacher.image.alpha == nil, recorded["teacher.model"] != nil
    else { return self }
    var run = self
    if let word = recorded["teacher.image.alpha"] {
      run.teacher?.image.alpha = AlphaHandling(rawValue: word)
    } else {
      run.teacher?.image.alpha = try TeacherModel.earlierAlpha(teacher, over: ranks)
    }
    return run
  }

  fileprivate var teachers: [TeacherConfig] {
    guard let teacher, usesTeacher else { return [] }
    return [teacher] + teacher.ensemble.map(\.teacher)
  }
}

/// The pruning of a run: masks are trained up to the step of the cut, which leaves a smaller model.
struct Pruning {
  let config: PruneConfig
  let seed: UInt64

  init?(_ run: RunConfig) {
    guard let config = run.prune else { return nil }
    (self.config, seed) = (config, run.seed)
  }

  /// Throws a `UserError` if the model has no masks or is as sparse already, or if the run ends before the cut.
  func check(_ model: CLIPConfig, steps: Int) throws {
    if model.vision.stages != nil, config.towers.image {
      throw UserError(
        "prune.towers is \(config.towers.rawValue), and the image tower is a ModifiedResNet, which has no "
          + "masks: set prune.towers to text")
    }
    guard config.step < steps else {
      throw UserError(
        "prune.step is \(config.step), and the run has \(steps) steps: lower it, or raise steps or epochs",
        status: .usage)
    }
    let layout = MaskLayout(model, towers: config.towers)
    let already = Masks(layout).sparsity(of: [Double](repeating: 1, count: layout.count))
    guard already < config.sparsity else {
      throw UserError(
        "prune.sparsity is \(config.sparsity), and \(Figures.significant(already, 3)) of the model has "
          + "already been removed: raise it")
    }
  }

  func masks(of model: CLIP<Float>) -> MaskTraining<Float> {
    MaskTraining(
      model, MaskLayout(model.config, towers: config.towers),
      .init(
        sparsity: config.sparsity, start: config.startSparsity, ramp: config.ramp, learningRate: config.learningRate,
        seed: seed))
  }

  /// Returns the sizes of the model in a checkpoint, which after the cut are not those of the run file; patch dropout,
  /// which is no size, is the run file's.
  func config(_ model: CLIPConfig, in checkpoint: Checkpoint?) throws -> CLIPConfig {
    guard let checkpoint, isCut(after: checkpoint.manifest.record.step) else { return model }
    let record = checkpoint.manifest.record
    guard !record.arrays.contains(where: { $0.name.hasPrefix(MaskTraining<Float>.prefix) }) else {
      throw UserError(
        checkpoint.folder,
        "has masks after step \(record.step), and prune.step \(config.step) lies before it; set prune.step to "
          + "\(record.step) or more, or resume from an earlier checkpoint")
    }
    var cut = try SavedRun(checkpoint).config(in: checkpoint.folder)
    cut.vision.patchDropout = model.vision.patchDropout
    return cut
  }

  /// True if a checkpoint after this number of steps holds the cut model. The one of the cut's own step does not.
  func isCut(after steps: Int) -> Bool { steps > config.step }

  var text: String {
    let which = config.towers == .both ? "both towers" : "the \(config.towers.rawValue) tower"
    let sparsity = "from sparsity \(config.startSparsity) to \(config.sparsity)"
    return "prunes \(which) \(sparsity): masks for \(config.step) steps, during which the learning rate rises, "
      + "then the cut"
  }

  static func text(_ before: CLIP<Float>, _ after: CLIP<Float>, _ sparsity: Double) -> String {
    func tower(_ name: String, _ width: (Int, Int), _ blocks: (BlockSizes, BlockSizes)) -> String {
      "\(name) \(width.1) of \(width.0) hidden units, heads \(blocks.1.heads) of \(blocks.0.heads), MLP units "
        + "\(blocks.1.hidden) of \(blocks.0.hidden)"
    }
    let (a, b) = (before.config, after.config)
    var towers: [String] = []
    if b.vision.blocks != a.vision.blocks {
      towers.append(tower("image tower", (a.vision.width, b.vision.width), (a.vision.blockSizes, b.vision.blockSizes)))
    }
    if b.text.blocks != a.text.blocks {
      towers.append(tower("text tower", (a.text.width, b.text.width), (a.text.blockSizes, b.text.blockSizes)))
    }
    return "cut from \(before.parameters.parameterCount) to \(after.parameters.parameterCount) parameters, sparsity "
      + "\(Figures.significant(sparsity, 4)): " + towers.joined(separator: "; ") + "; the optimizer restarts"
  }
}
