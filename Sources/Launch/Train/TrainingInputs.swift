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
