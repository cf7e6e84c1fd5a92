import Dist
import Foundation
import Model
import Settings
import Tensor

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
  /// The ranks' arithmetic; empty if the run is only estimated.
  var arithmetic: [Arithmetic] = []
  var notes: [String] = []
  /// Warnings besides those that follow from the run file alone.
  var warnings: [String] = []
  /// The copies of the data on the nodes' own disks, in words.
  var stage: String?
  /// The retrieval evaluations whose datasets are there.
  var retrievals: [Retrieval] = []
  var precisionText: String? { precision.isEmpty ? nil : precision.joined(separator: "; ") }

  struct Retrieval {
    let name: String
    let images, captions: Int
  }

  struct Teacher {
    let shape: RunShape.Teacher
    let path: String
    /// The checksum of the weights, or the reason why it is not known.
    let weights: String
    let vocabulary: String
    /// The folder of the cache from which its embeddings come, if it has one.
    let cache: String?
    /// How its transparent pixels become opaque; nil if that is not known.
    var alpha: AlphaHandling?
    /// The arithmetic that the cache was computed with; nil if none was opened.
    var arithmetic: String?
  }
}

extension RunPreview.Teacher {
  /// Describes a teacher of which only the embeddings are known.
  init(_ cached: CachedTeacher) {
    let files = cached.caches[0].manifest.description.teacher
    self.init(
      shape: .init(importedWidth: cached.width), path: files.path, weights: "SHA-256 \(files.sha256)", vocabulary: "",
      cache: cached.folder)
  }

  init(_ model: TeacherModel) {
    let isCached = model.cache != nil
    self.init(
      shape: .init(config: model.config, microBatchSize: model.microBatchSize, isCached: isCached), path: model.path,
      weights: "SHA-256 \(model.sha256)", vocabulary: model.vocabulary, cache: model.cache,
      alpha: model.input.image.alpha)
  }
}

/// Previews a run on a machine that lacks some of its files. The run file gives their sizes.
struct DryRun {
  private let run: RunConfig
  private let ranks: Communicator
  private let plan: ThreadPlan
  /// The files that the run names and that at least one rank lacks.
  private let absent: Set<String>

  /// The result is nil if all files exist. Every rank must call it.
  init?(_ run: RunConfig, _ plan: ThreadPlan, over ranks: Communicator) throws {
    (self.run, self.ranks, self.plan) = (run, ranks, plan)
    let teacher = run.usesTeacher ? run.teacher : nil
    let teachers = ([teacher] + run.ofFurtherTeachers.map(\.teacher)).compactMap { $0 }
    let named =
      [run.vocabulary] + run.data.datasets.map(\.path) + teachers.filter { !$0.isImported }.map(\.model)
      + teachers.compactMap(\.vocabulary) + [run.start.from].compactMap { $0 }
      + run.evaluate.evaluations.flatMap(Self.files)
    // There is no file at RUN/best, which stands for a run's best checkpoint.
    var isAbsent = named.map { FileManager.default.fileExists(atPath: TrainedModel.checkpoint($0)) ? 0 : 1 }
    try ranks.allReduce(&isAbsent)
    absent = Set(zip(named, isAbsent).filter { $1 > 0 }.map { $0.0 })
    if absent.isEmpty { return nil }
  }

  private static func files(of evaluation: EvaluationConfig) -> [String] {
    [evaluation.dataset, evaluation.classes, evaluation.templates].compactMap { $0 }
  }

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
    let evaluated = run.evaluate.evaluations.flatMap(Self.files).filter(absent.contains)
    if !evaluated.isEmpty {
      warnings.append(
        "these are not there, and evaluations need them: \(Set(evaluated).sorted().joined(separator: ", "))")
    }
    if run.data.captions == .all {
      warnings.append("data.captions is all, and the datasets are not read: one caption of each image is assumed")
    }
    if let source = run.start.inherit { warnings.append("init.inherit, \(source), is read only when the run starts") }
    if let source = run.start.from { warnings.append("init.from, \(source), is read only when the run starts") }
    let (student, _) = CLIP<Float>.student(config, run.objective, teacherWidth: teacher?.shape.width)
    let steps = try run.totalSteps(sampler)
    let pruning = Pruning(run)
    try pruning?.check(config, steps: steps)
    let frozen = try run.frozen(in: student.parameters)
    try run.optimizer.checkGroups(in: student.parameters)
    let others = try run.ofFurtherTeachers.compactMap(\.teacher).map { teacher in
      if teacher.isImported, let cache = teacher.cache { return try cache.importedWidth(over: ranks) }
      return try TeacherModel.sizes(teacher, over: ranks).embedding
    }
    let shape = RunShape(
      run: run, config: config, parameters: student.parameters, teacher: teacher?.shape, frozen: frozen,
      ensemble: others, threads: plan.compute)
    try shape.requireCountable(batch: run.batch.global)
    return RunPreview(
      shape: shape, teacher: teacher, datasets: datasets, sampler: sampler, steps: steps, plan: plan,
      notes: [run.ema?.text, config.vision.dropoutNote(isFrozen: frozen.image), pruning?.text].compactMap { $0 },
      warnings: warnings)
  }

  private func model(_ warnings: inout [String]) throws -> CLIPConfig {
    guard absent.contains(run.vocabulary) else {
      return try run.model.resolved(for: Vocabulary(contentsOf: run.vocabulary), path: run.vocabulary)
    }
    let config = try run.model.readSizes()
    guard config.text.vocabularySize > 0 else {
      let reason = "vocab_size is 0, as many as the vocabulary has, and \(run.vocabulary) is not there; "
      let fix = "set vocabulary to the file, or text_cfg.vocab_size to the number of its tokens"
      throw UserError("model", reason + fix, status: .inputOutput)
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
        let key = "data.datasets.\(index).samples"
        let reason = "there is no such dataset; import it, or for a dry run give its number of images in \(key)"
        throw UserError(config.path, reason, status: .inputOutput)
      }
      warnings.append("\(config.path) is not there: its number of images is data.datasets.\(index).samples, \(samples)")
      return (URL(filePath: config.path).lastPathComponent, samples)
    }
  }

  private func teacher(_ warnings: inout [String]) throws -> RunPreview.Teacher? {
    guard let teacher = run.teacher, run.usesTeacher else { return nil }
    if teacher.isImported, let cache = teacher.cache {
      return RunPreview.Teacher(
        shape: .init(importedWidth: try cache.importedWidth(over: ranks)), path: cache.path, weights: "not read",
        vocabulary: "", cache: cache.path)
    }
    let words = teacher.vocabulary ?? run.vocabulary
    let isAbsent = absent.contains(teacher.model)
    if isAbsent {
      let source = teacher.preset ?? "its config"
      warnings.append("\(teacher.model) is not there: the teacher's sizes are those of \(source)")
    } else if !absent.contains(words) {
      var known = try TeacherModel(run, over: ranks).map { RunPreview.Teacher($0) }
      // Its cache, which is not opened here, may have been made in another way.
      if teacher.cache != nil { known?.alpha = teacher.image.alpha }
      return known
    }
    let config = try TeacherModel.sizes(teacher, over: ranks)
    let isCached = teacher.cache != nil
    return RunPreview.Teacher(
      shape: .init(config: config, microBatchSize: teacher.microBatchSize, isCached: isCached), path: teacher.model,
      weights: isAbsent ? "which is not there" : "not read", vocabulary: words, cache: teacher.cache?.path,
      alpha: teacher.image.alpha)
  }
}

/// Prints what a run is and what it runs on, before the first step.
struct RunHeader {
  let preview: RunPreview
  let ranks: Communicator

  init(_ preview: RunPreview, over ranks: Communicator) { (self.preview, self.ranks) = (preview, ranks) }

  /// A line of the header, which the log keeps too.
  typealias Fact = LogEvent.Header.Fact

  /// Prints the header on rank 0's standard output, and returns its facts for the log there. If it is all that the
  /// command gives, it throws if it cannot print. Every rank must call it.
  @discardableResult
  func print(isResult: Bool = false) throws -> [Fact] {
    let (machineOfAll, hostsOfAll) = (try ranks.gather(preview.plan.warnings), try ranks.gather(ranks.hostname))
    guard let machine = machineOfAll, let hosts = hostsOfAll else { return [] }
    let estimate = shape.estimate(ranks: ranks.size, ofNode: ranks.nodeSize)
    let texts: [(String, String?)] = [
      ("model", modelText), ("teacher", preview.teacher.map(text(of:))), ("data", dataText),
      ("stage", preview.stage), ("steps", stepsText), ("objective", cosinesText),
      ("memory", "about \(Figures.bytes(estimate.memoryBytes)) a rank: \(RunEstimate.list(estimate.memory))"),
      ("wire", Self.messagesText(estimate)), ("precision", preview.precisionText),
      ("arithmetic", preview.arithmetic.isEmpty ? nil : preview.arithmetic.text),
    ]
    let facts = texts.compactMap { name, text in text.map { Fact(name: name, text: $0) } }
    let notes =
      [run.freezeText(shape.frozen, shape.parameters)].compactMap { $0 }
      + run.optimizer.groupTexts(shape.parameters, shape.frozen) + preview.notes
    let differing = [preview.arithmetic.warning].compactMap { $0 }
    let warnings =
      run.warnings(totalSteps: preview.steps) + preview.warnings + differing + Set(machine.joined()).sorted()
    let counts = Figures.count(ranks.size, "rank")
    let lines =
      ["kinship \(Release.version)  run \(run.name)  \(counts), \(threadsText) each, \(processorText)"]
      + facts.map { $0.name.padding(toLength: max(7, $0.name.count + 1), withPad: " ", startingAt: 0) + $0.text }
      + notes + warnings.map { "warning: \($0)" }
    let text = lines.joined(separator: "\n")
    if isResult { try StandardOutput.print(text) } else { StandardOutput.show(text) }
    let machineFacts = [
      Fact(name: "ranks", text: "\(ranks.size) on \(Self.hostsText(hosts))"),
      Fact(name: "threads", text: "\(threadsText) a rank"), Fact(name: "processor", text: processorText),
    ]
    return machineFacts + facts + notes.map { Fact(name: "note", text: $0) }
      + warnings.map { Fact(name: "warning", text: $0) }
  }

  private var shape: RunShape { preview.shape }
  private var run: RunConfig { shape.run }

  private var threadsText: String {
    "\(preview.plan.compute) compute and \(run.data.workers ?? preview.plan.loaders) loader threads"
  }
  private var processorText: String { "\(Machine.processorName), BLAS kernel \(BLAS.kernel)" }

  /// Returns the first hosts in the order of their ranks, with the number of ranks on each: `node-1 (4), node-2 (4)`.
  static func hostsText(_ hosts: [String]) -> String {
    var seen: Set<String> = []
    let names = hosts.filter { seen.insert($0).inserted }
    let shown = names.prefix(16).map { name in "\(name) (\(hosts.count { $0 == name }))" }
    return shown.joined(separator: ", ")
      + (names.count > shown.count ? " and \(names.count - shown.count) more hosts" : "")
  }

  var modelText: String {
    let own = shape.parameters.entries.filter { $0.owner == .objective }.reduce(0) { $0 + $1.shape.count }
    let statistics = run.model.syncBatchNorm ? "all ranks" : "each rank"
    return sizesText(shape.config, shape.parameters.parameterCount - own)
      + (shape.config.vision.stages == nil ? "" : "; batch norm with the statistics of \(statistics)")
      + (own == 0 ? "" : "; and \(own) parameters of the objective's own")
  }

  private func text(of teacher: RunPreview.Teacher) -> String {
    guard let config = teacher.shape.config else {
      return "embeddings that another program computed, \(teacher.shape.width) wide, from \(teacher.path), "
        + "\(teacher.weights)" + (teacher.cache.map { "; in \($0)" } ?? "")
    }
    let microBatchSize = teacher.shape.microBatchSize
    let alpha = teacher.alpha.map { "; alpha \($0.rawValue)" } ?? ""
    let computed = teacher.arithmetic.map { ", computed with \($0)" } ?? ""
    return sizesText(config, CLIP<Float>.layout(config).parameterCount)
      + "; from \(teacher.path), \(teacher.weights)\(alpha)"
      + (teacher.cache.map { "; not loaded: its embeddings come from \($0)\(computed)" }
        ?? "; words of \(teacher.vocabulary); \(microBatchSize.map { "\($0)" } ?? "all") pairs at a time")
  }

  private func sizesText(_ config: CLIPConfig, _ count: Int) -> String {
    let t = config.text
    return
      "\(Figures.significant(Double(count) / 1e6, 4)) M parameters; \(visionText(config.vision)); "
      + "text \(t.width) wide, \(t.layers) layers, \(t.vocabularySize) tokens, context \(t.contextLength); "
      + "embedding \(config.embedding)"
  }

  private func visionText(_ v: VisionConfig) -> String {
    guard let stages = v.stages else {
      return "vision \(v.width) wide, \(v.layers) layers, \(v.imageSize) px in patches of \(v.patchSize)"
    }
    return "ResNet of \(stages.map(String.init).joined(separator: ", ")) blocks, \(v.width) wide, \(v.imageSize) px"
  }

  private var dataText: String {
    zip(preview.datasets, run.data.datasets).map { dataset, config in
      "\(dataset.name) \(Figures.count(dataset.count, "image"))\(config.weight == 1 ? "" : " × \(config.weight)")"
    }.joined(separator: ", ") + "; \(preview.sampler.samplesPerEpoch) samples an epoch"
  }

  private var stepsText: String {
    let counts = Set(ranks.slices(of: run.batch.global).map(\.count)).sorted()
    let pairs = counts.map(String.init).joined(separator: " or ")
    return "\(preview.steps) of \(run.batch.global) pairs (\(pairs) a rank), \(preview.sampler.stepsPerEpoch) an epoch"
      + (run.epochs.map { ", \($0) epochs" } ?? "")
  }

  /// Says what weights of distances mean in cosines: `fd 2000 weighs each modality's mean 1 − cosine by 7.812`.
  private var cosinesText: String? {
    guard let width = preview.teacher?.shape.width else { return nil }
    func text(_ weight: Scheduled<Double>, times factor: Double = 1) -> String {
      weight.points.map { Figures.significant(factor * $0.value, 4) }.joined(separator: " to ")
    }
    let texts = run.objective.cosineWeights(teacherWidth: width).map { key, weight, factor in
      "\(key) \(text(weight)) weighs each modality's mean 1 − cosine by \(text(weight, times: factor)) (the teacher's "
        + "embedding is \(width) wide)"
    }
    return texts.isEmpty ? nil : texts.joined(separator: "; ")
  }

  private static func messagesText(_ estimate: RunEstimate) -> String {
    let received = estimate.received
    if received.isEmpty { return "nothing: there are no other ranks" }
    return "\(Figures.bytes(received.reduce(0) { $0 + $1.bytes })) a step: \(RunEstimate.list(received))"
      + (estimate.route.text.map { "; \($0)" } ?? "")
  }
}
