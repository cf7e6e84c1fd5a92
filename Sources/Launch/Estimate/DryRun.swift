import Dist
import Foundation
import Model

/// Files that a run names and that are not on this machine.
struct AbsentFiles {
  private let paths: Set<String>

  /// Nil where everything is there. Every rank must call it: what one of them lacks counts as absent.
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

  /// The files that an evaluation looks at.
  static func named(by evaluation: EvaluationConfig) -> [String] {
    [evaluation.dataset, evaluation.classes, evaluation.templates].compactMap { $0 }
  }

  func contains(_ path: String) -> Bool { paths.contains(path) }
}

/// What a run would need, on a machine that does not have all of its files: their sizes come from the run file.
struct DryRun {
  let run: RunConfig
  let ranks: Communicator
  let plan: ThreadPlan
  let absent: AbsentFiles

  /// Every rank must call it.
  func header() throws -> RunHeader {
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
      config, run.objective, teacherWidth: teacher?.config.embedding)
    let steps = run.steps ?? (run.epochs ?? 1) * sampler.stepsPerEpoch
    let pruning = Pruning(run)
    try pruning?.check(config, steps: steps)
    return RunHeader(
      run: run, config: config, parameters: student.parameters, teacher: teacher, datasets: datasets, sampler: sampler,
      steps: steps, plan: plan, ranks: ranks, frozen: try run.frozen(in: student.parameters),
      ensemble: try run.ofFurtherTeachers.compactMap(\.teacher).map {
        try TeacherModel.sizes($0, over: ranks).embedding
      }, notes: [run.ema?.text, pruning?.text].compactMap { $0 }, warnings: warnings)
  }

  private func model(_ warnings: inout [String]) throws -> CLIPConfig {
    guard absent.contains(run.vocabulary) else {
      return try run.model.resolved(for: Vocabulary(contentsOf: run.vocabulary), path: run.vocabulary)
    }
    let config = try run.model.readSizes()
    guard config.text.vocabularySize > 0 else {
      throw ModelError(
        description: "model: vocab_size is 0, as many as the vocabulary has, and \(run.vocabulary) is not there; "
          + "set vocabulary to the file, or text_cfg.vocab_size to the number of its tokens", status: .inputOutput)
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
          path: config.path, status: .inputOutput,
          reason: "there is no such dataset; import it, or for a dry run give its number of images in "
            + "data.datasets.\(index).samples")
      }
      warnings.append("\(config.path) is not there: its \(samples) images are as data.datasets.\(index).samples says")
      return (URL(filePath: config.path).lastPathComponent, samples)
    }
  }

  private func teacher(_ warnings: inout [String]) throws -> RunHeader.Teacher? {
    guard let teacher = run.teacher, run.usesTeacher else { return nil }
    let words = teacher.vocabulary ?? run.vocabulary
    if absent.contains(teacher.model) {
      let source = teacher.preset ?? "its config"
      warnings.append("\(teacher.model) is not there: the teacher's sizes are those of \(source)")
    } else if !absent.contains(words) {
      return try TeacherModel(run, over: ranks).map { .init($0) }
    }
    return RunHeader.Teacher(
      config: try TeacherModel.sizes(teacher, over: ranks), path: teacher.model,
      weights: absent.contains(teacher.model) ? RunHeader.Teacher.absent : "not read", vocabulary: words,
      microBatchSize: teacher.microBatchSize, cache: teacher.cache?.path)
  }
}
