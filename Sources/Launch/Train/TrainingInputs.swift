import Dist
import Foundation
import Model

/// Everything that a run reads before there is a model to train. The run does not begin unless it is the same on every
/// rank.
struct TrainingInputs {
  let run: RunConfig
  let ranks: Communicator
  /// The model's sizes in the run file; a model that was pruned has others.
  let sizes: CLIPConfig
  let pruning: Pruning?
  /// The frozen part of the model.
  let frozen: Frozen
  let teacher: TeacherModel?
  /// The weights of a teacher that computes its embeddings during training; nil if only its description was read.
  let weights: TeacherWeights?
  /// The teacher whose embeddings come from a cache.
  let cached: CachedTeacher?
  let ensemble: Ensemble
  let data: TrainingData
  let evaluations: TrainingEvaluations
  /// The length of the run in steps.
  let steps: Int
  /// The optimizer's settings, with `auto` replaced.
  let optimizer: OptimizerConfig
  let precision: ProductPrecision

  /// Opens and checks all inputs. With `checking` it also compares the contents of the files with their checksums, and
  /// reads the teacher's weights. Every rank must call it.
  ///
  /// - Throws: `StopRequest.Interruption` if the run is to stop before it has begun.
  init(_ run: RunConfig, checking: Bool, over ranks: Communicator) throws {
    self.run = run
    self.ranks = ranks
    precision = try ProductPrecision.agreed(run.precision.used, over: ranks)
    let vocabulary = try Vocabulary(contentsOf: run.vocabulary)
    sizes = try run.model.resolved(for: vocabulary, path: run.vocabulary).trained(by: run.objective)
    try run.checkStatistics(of: sizes, ranks: ranks.size)
    frozen = try run.frozen(in: CLIP<Float>.layout(sizes))
    let tokenizer = BytePairTokenizer(vocabulary: vocabulary, context: sizes.text.contextLength)
    let isLoaded = checking && run.teacher?.cache == nil
    var teacher = try TeacherModel(run, over: ranks, checksum: isLoaded ? .whenRead : .now)
    try ranks.requireSame("teacher", teacher?.identity ?? "")
    let data = try TrainingData(
      run, imageSize: sizes.vision.imageSize, tokenizer: tokenizer,
      teacher: run.teacher?.cache == nil ? teacher?.input : nil)
    cached = try teacher.flatMap { try CachedTeacher($0, run, data.datasets, checking: checking, over: ranks) }
    ensemble = try Ensemble(run, data.datasets, checking: checking, over: ranks)
    evaluations = try TrainingEvaluations(run, imageSize: sizes.vision.imageSize, tokenizer: tokenizer)
    try ranks.requireSame("vocabulary", SHA256.ofFile(run.vocabulary))
    try ranks.requireSame("model", String(decoding: sizes.json, as: UTF8.self))
    for dataset in data.datasets { try ranks.requireSame("dataset \(dataset.name)", dataset.fingerprint) }
    if checking, run.data.verify == .checksums {
      try Dataset.verify(data.datasets, over: ranks) { try StopRequest.check(over: ranks) }
    }
    self.data = data
    steps = run.steps ?? (run.epochs ?? 1) * data.sampler.stepsPerEpoch
    pruning = Pruning(run)
    try pruning?.check(sizes, steps: steps)
    var optimizer = run.optimizer.resolved(
      visionTransformer: sizes.vision.stages == nil, objective: run.objective.preset)
    if let pruning { optimizer.warmup = pruning.config.step }
    self.optimizer = optimizer
    // This comes last because it takes long if the teacher is large.
    weights = isLoaded ? try teacher?.load(over: ranks) : nil
    self.teacher = teacher
  }

  /// Returns the sizes of the model that continues from `checkpoint`.
  func config(in checkpoint: Checkpoint?) throws -> CLIPConfig { try pruning?.config(sizes, in: checkpoint) ?? sizes }

  /// Returns a model of these sizes with the objective that trains it, both without memory.
  func student(_ config: CLIPConfig) -> (CLIP<Float>, Objective<Float>) {
    CLIP<Float>.student(
      config, run.objective, teacherWidth: teacher?.config.embedding, others: ensemble.shapes,
      precision: precision.used, recompute: run.batch.recompute)
  }

  var schedule: Schedule { optimizer.schedule(steps: steps) }
}

extension ModelConfig {
  /// Returns the model's sizes as they are written.
  func readSizes() throws -> CLIPConfig {
    do {
      return try resolved()
    } catch let error as ConfigError {
      throw UserError("model", "\(error)")
    } catch {
      throw UserError("model", "cannot read \(file ?? ""): \(error.systemReason)", status: .inputOutput)
    }
  }

  /// Returns the model's sizes; a vocabulary size of 0 becomes that of the run's vocabulary in the file `path`. Throws
  /// a `UserError` (exit code 65) if the sizes are impossible or the vocabulary has another size.
  func resolved(for vocabulary: Vocabulary, path: String) throws -> CLIPConfig {
    var config = try readSizes()
    if config.text.vocabularySize == 0 { config.text.vocabularySize = vocabulary.size }
    guard config.text.vocabularySize == vocabulary.size else {
      throw UserError(
        "model",
        "vocab_size is \(config.text.vocabularySize) and the vocabulary \(path) has \(vocabulary.size) "
          + "tokens; set text_cfg.vocab_size to \(vocabulary.size), or to 0 for as many as the vocabulary has")
    }
    return config
  }
}

extension RunConfig {
  /// Throws a `UserError` (exit code 65) if `sync_bn` is set for a model without batch norm, or if it is off and a rank
  /// would have no images for its own statistics.
  func checkStatistics(of config: CLIPConfig, ranks: Int) throws {
    if config.vision.stages == nil, model.syncBatchNorm {
      throw UserError("model", "sync_bn is true, and a vision transformer has no batch norm; leave sync_bn out")
    }
    if config.vision.stages != nil, !model.syncBatchNorm, batch.global < ranks {
      throw UserError(
        nil,
        "batch.global is \(batch.global) and there are \(ranks) ranks: batch norm needs images on each "
          + "of them; raise batch.global to \(ranks) or more, or set model.sync_bn to true")
    }
  }
}
