import Dist
import Foundation
import Model

/// All that a run reads before there is a model to train; the same on every rank, or the run does not begin.
struct TrainingInputs {
  let run: RunConfig
  let ranks: Communicator
  /// The model's sizes as the run file has them; a model that was pruned has others.
  let sizes: CLIPConfig
  let pruning: Pruning?
  /// What of the model stays as it is.
  let frozen: Frozen
  let teacher: TeacherModel?
  /// Of a teacher that computes its embeddings anew; nil where it was only looked at.
  let weights: TeacherWeights?
  /// The teacher's embeddings, where they come from a cache.
  let cached: CachedTeacher?
  let further: FurtherTeachers
  let data: TrainingData
  let evaluations: TrainingEvaluations
  /// The length of the run.
  let steps: Int
  /// With nothing left to the model or the objective.
  let optimizer: OptimizerConfig
  let precision: ProductPrecision

  /// Opens and checks everything; with `checking` what it says is in the files is read and compared, too. Every rank
  /// must call it. Throws `StopRequest.Interruption` where the run is to stop before it has begun.
  init(_ run: RunConfig, checking: Bool, over ranks: Communicator) throws {
    self.run = run
    self.ranks = ranks
    precision = try ProductPrecision.agreed(run.precision.used, over: ranks)
    let vocabulary = try Vocabulary(contentsOf: run.vocabulary)
    sizes = try run.model.resolved(for: vocabulary, path: run.vocabulary)
    try run.checkStatistics(of: sizes, ranks: ranks.size)
    frozen = try run.frozen(in: CLIP<Float>.layout(sizes))
    let tokenizer = BytePairTokenizer(vocabulary: vocabulary, context: sizes.text.contextLength)
    let isLoaded = checking && run.teacher?.cache == nil
    var teacher = try TeacherModel(run, over: ranks, checksum: isLoaded ? .whenRead : .now)
    try ranks.requireSame("teacher", teacher?.identity ?? "")
    let data = try TrainingData(
      run, imageSize: sizes.vision.imageSize, tokenizer: tokenizer,
      teacher: run.teacher?.cache == nil ? teacher?.input : nil)
    cached = try teacher.flatMap { try CachedTeacher($0, run, data.corpora, checking: checking, over: ranks) }
    further = try FurtherTeachers(run, data.corpora, checking: checking, over: ranks)
    evaluations = try TrainingEvaluations(run, imageSize: sizes.vision.imageSize, tokenizer: tokenizer)
    try ranks.requireSame("vocabulary", SavedRun.sha256(of: run.vocabulary))
    try ranks.requireSame("model", String(decoding: sizes.json, as: UTF8.self))
    for corpus in data.corpora { try ranks.requireSame("corpus \(corpus.name)", corpus.fingerprint) }
    if checking, run.data.verify == .checksums {
      try Corpus.verify(data.corpora, over: ranks) { try StopRequest.check(over: ranks) }
    }
    self.data = data
    steps = run.steps ?? (run.epochs ?? 1) * data.sampler.stepsPerEpoch
    pruning = Pruning(run)
    try pruning?.check(sizes, steps: steps)
    var optimizer = run.optimizer.resolved(
      visionTransformer: sizes.vision.stages == nil, objective: run.objective.preset)
    if let pruning { optimizer.warmup = pruning.config.step }
    self.optimizer = optimizer
    // Last, for it takes long where the teacher is large.
    weights = isLoaded ? try teacher?.load(over: ranks) : nil
    self.teacher = teacher
  }

  /// The sizes of the model that goes on from `checkpoint`.
  func config(in checkpoint: Checkpoint?) throws -> CLIPConfig { try pruning?.config(sizes, in: checkpoint) ?? sizes }

  /// A model of such sizes with the objective that trains it; without memory.
  func student(_ config: CLIPConfig) -> (CLIP<Float>, Objective<Float>) {
    CLIP<Float>.student(
      config, run.objective, teacherWidth: teacher?.config.embedding, others: further.shapes,
      precision: precision.used, recompute: run.batch.recompute)
  }

  var schedule: Schedule { optimizer.schedule(steps: steps) }
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
