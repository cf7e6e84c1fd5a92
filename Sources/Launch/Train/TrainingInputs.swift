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
  let further: FurtherTeachers
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
    further = try FurtherTeachers(run, data.datasets, checking: checking, over: ranks)
    evaluations = try TrainingEvaluations(run, imageSize: sizes.vision.imageSize, tokenizer: tokenizer)
    try ranks.requireSame("vocabulary", SavedRun.sha256(of: run.vocabulary))
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
      config, run.objective, teacherWidth: teacher?.config.embedding, others: further.shapes,
      precision: precision.used, recompute: run.batch.recompute)
  }

  var schedule: Schedule { optimizer.schedule(steps: steps) }
}
