import Dist
import Foundation
import Model

/// A run before its first step: its shape, its data and its length, and what the user should know about it.
struct RunPreview {
  var shape: RunShape
  /// The first teacher; nil if no term uses one.
  let teacher: Teacher?
  /// The name and the number of images of each dataset.
  let datasets: [(name: String, count: Int)]
  let sampler: Sampler
  let steps: Int
  let plan: ThreadPlan
  /// The choice of `precision: auto` and the reason; empty if the run file names a precision.
  var precision: [String] = []
  /// Further facts.
  var notes: [String] = []
  /// Warnings besides those that follow from the run file alone.
  var warnings: [String] = []

  var precisionText: String? { precision.isEmpty ? nil : precision.joined(separator: "; ") }

  /// A teacher and its files.
  struct Teacher {
    let shape: RunShape.Teacher
    let path: String
    /// The checksum of the weights, or the reason why it is not known.
    let weights: String
    let vocabulary: String
    /// The folder of the cache from which its embeddings come, if it has one.
    let cache: String?
  }
}

extension RunPreview.Teacher {
  init(_ model: TeacherModel) {
    self.init(
      model.config, path: model.path, weights: "SHA-256 \(model.sha256)", vocabulary: model.vocabulary,
      microBatchSize: model.microBatchSize, cache: model.cache)
  }

  fileprivate init(
    _ config: CLIPConfig, path: String, weights: String, vocabulary: String, microBatchSize: Int?, cache: String?
  ) {
    shape = RunShape.Teacher(config: config, microBatchSize: microBatchSize, isCached: cache != nil)
    (self.path, self.weights, self.vocabulary, self.cache) = (path, weights, vocabulary, cache)
  }
}

/// The files that a run names and that this machine does not have.
struct AbsentFiles {
  private let paths: Set<String>

  /// The result is nil if all files exist. A file that one rank lacks counts as absent. Every rank must call it.
  init?(_ run: RunConfig, over ranks: Communicator) throws {
    let teacher = run.usesTeacher ? run.teacher : nil
    let teachers = ([teacher] + run.ofFurtherTeachers.map(\.teacher)).compactMap { $0 }
    let named =
      [run.vocabulary] + run.data.datasets.map(\.path) + teachers.map(\.model) + teachers.compactMap(\.vocabulary)
      + [run.start.from].compactMap { $0 } + run.evaluate.evaluations.flatMap(Self.named(by:))
    var isAbsent = named.map { FileManager.default.fileExists(atPath: $0) ? 0 : 1 }
    try ranks.allReduce(&isAbsent)
    paths = Set(zip(named, isAbsent).filter { $1 > 0 }.map { $0.0 })
    if paths.isEmpty { return nil }
  }

  /// Returns the files that an evaluation reads.
  static func named(by evaluation: EvaluationConfig) -> [String] {
    [evaluation.dataset, evaluation.classes, evaluation.templates].compactMap { $0 }
  }

  func contains(_ path: String) -> Bool { paths.contains(path) }
}

/// Previews a run on a machine that lacks some of its files. The run file gives their sizes.
struct DryRun {
  let run: RunConfig
  let ranks: Communicator
  let plan: ThreadPlan
  let absent: AbsentFiles

  /// Every rank must call it.
  func preview() throws -> RunPreview {
    var warnings: [String] = []
    let config = try model(&warnings)
    try run.checkStatistics(of: config, ranks: ranks.size)
    try run.image.sized(config.vision.imageSize).validate()
    let datasets = try datasets(&warnings)
    let sampler = try Sampler(
      datasets: zip(datasets, run.data.datasets).map { ($0.count, $1.weight) }, batch: run.batch.global, seed: run.seed,
      wrap: run.data.wrap)
    let teacher = try teacher(&warnings)
    let evaluated = run.evaluate.evaluations.flatMap(AbsentFiles.named(by:)).filter(absent.contains)
    if !evaluated.isEmpty {
      warnings.append(
        "these are not there, and evaluations need them: \(Set(evaluated).sorted().joined(separator: ", "))")
    }
    if let source = run.start.inherit { warnings.append("\(source), from which the run inherits, is not looked at") }
    if let source = run.start.from { warnings.append("\(source), with whose weights the run begins, is not looked at") }
    let (student, _) = CLIP<Float>.student(
      config, run.objective, teacherWidth: teacher?.shape.config.embedding)
    let steps = run.steps ?? (run.epochs ?? 1) * sampler.stepsPerEpoch
    let pruning = Pruning(run)
    try pruning?.check(config, steps: steps)
    let shape = RunShape(
      run: run, config: config, parameters: student.parameters, teacher: teacher?.shape,
      frozen: try run.frozen(in: student.parameters),
      ensemble: try run.ofFurtherTeachers.compactMap(\.teacher).map {
        try TeacherModel.sizes($0, over: ranks).embedding
      }, threads: plan.compute)
    return RunPreview(
      shape: shape, teacher: teacher, datasets: datasets, sampler: sampler, steps: steps, plan: plan,
      notes: [run.ema?.text, pruning?.text].compactMap { $0 }, warnings: warnings)
  }

  private func model(_ warnings: inout [String]) throws -> CLIPConfig {
    guard absent.contains(run.vocabulary) else {
      return try run.model.resolved(for: Vocabulary(contentsOf: run.vocabulary), path: run.vocabulary)
    }
    let config = try run.model.readSizes()
    guard config.text.vocabularySize > 0 else {
      throw UserError(
        "model",
        "vocab_size is 0, as many as the vocabulary has, and \(run.vocabulary) is not there; "
          + "set vocabulary to the file, or text_cfg.vocab_size to the number of its tokens",
        status: .inputOutput)
    }
    warnings.append("\(run.vocabulary) is not there: its \(config.text.vocabularySize) tokens are those of the model")
    return config
  }

  private func datasets(_ warnings: inout [String]) throws -> [(name: String, count: Int)] {
    try run.data.datasets.enumerated().map { index, config in
      guard absent.contains(config.path) else {
        let dataset = try Dataset.open(config.path, check: .sizes)
        return (dataset.name, dataset.count)
      }
      guard let samples = config.samples else {
        throw UserError(
          config.path,
          "there is no such dataset; import it, or for a dry run give its number of images in "
            + "data.datasets.\(index).samples",
          status: .inputOutput)
      }
      warnings.append("\(config.path) is not there: its \(samples) images are as data.datasets.\(index).samples says")
      return (URL(filePath: config.path).lastPathComponent, samples)
    }
  }

  private func teacher(_ warnings: inout [String]) throws -> RunPreview.Teacher? {
    guard let teacher = run.teacher, run.usesTeacher else { return nil }
    let words = teacher.vocabulary ?? run.vocabulary
    if absent.contains(teacher.model) {
      let source = teacher.preset ?? "its config"
      warnings.append("\(teacher.model) is not there: the teacher's sizes are those of \(source)")
    } else if !absent.contains(words) {
      return try TeacherModel(run, over: ranks).map { RunPreview.Teacher($0) }
    }
    return RunPreview.Teacher(
      try TeacherModel.sizes(teacher, over: ranks), path: teacher.model,
      weights: absent.contains(teacher.model) ? "which is not there" : "not read", vocabulary: words,
      microBatchSize: teacher.microBatchSize, cache: teacher.cache?.path)
  }
}
