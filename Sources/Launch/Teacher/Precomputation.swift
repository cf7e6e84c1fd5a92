import Dist
import Foundation
import Model
import Tensor

/// All datasets of a run, embedded by each of its teachers into a cache.
struct Precomputation {
  let run: RunConfig
  let ranks: Communicator

  /// Every rank must call it; rank 0 says what is done.
  func perform() throws {
    try ranks.requireSame("run", run.yaml)
    guard run.usesTeacher, run.teacher?.cache != nil else { throw NothingToPrecompute(hasTeacher: run.usesTeacher) }
    let plan = try ThreadPlan.agreed(over: ranks)
    // BLAS on several threads gives other last bits than on one: an embedding must not tell how many cores a rank had.
    let loaders = max(plan.compute + plan.loaders - 1, 1)
    Threads.count = 1
    let datasets = try distinct(run.data.datasets.map { try Dataset.open($0.path, check: check) })
    for dataset in datasets { try ranks.requireSame("dataset \(dataset.name)", dataset.fingerprint) }
    if plan.compute > 1 {
      log(
        "warning: each rank has cores for \(plan.compute) compute threads and uses one, so that the bits are the same "
          + "for any number of ranks; start one rank a core")
    }
    for run in [run] + run.ofFurtherTeachers { try embed(datasets, as: run, loaders) }
  }

  /// Embeds all datasets by the teacher of `run`.
  private func embed(_ datasets: [Dataset], as run: RunConfig, _ loaders: Int) throws {
    let decided = try decided(run, datasets)
    let run = decided.run
    guard var model = try TeacherModel(run, over: ranks, checksum: .whenRead), let cache = run.teacher?.cache else {
      return
    }
    // Each rank embeds blocks at its own pace, and sharded weights need all ranks at once.
    guard model.placement != .sharded else {
      throw UserError(
        path: model.path, status: .usage,
        reason: "its weights cannot be sharded while its embeddings are computed ahead; set teacher.placement to node "
          + "or replicated: --set teacher.placement=node")
    }
    try ranks.requireSame("teacher", model.identity)
    let weights = try model.load(over: ranks)
    log(
      "kinship \(Release.version)  teacher \(model.path) (SHA-256 \(model.sha256)), "
        + "embedding \(model.config.embedding); "
        + "\(ranks.size) \(ranks.size == 1 ? "rank" : "ranks") of one compute thread each, BLAS kernel \(BLAS.kernel)")
    log(weights.text)
    for text in decided.precision { log("precision \(text)") }
    if let note = model.precision.note { log(note) }
    for warning in model.precision.warnings { log("warning: \(warning)") }
    let teacher = PrecomputingTeacher(weights.model, model.input, seed: run.data.seed)
    for dataset in datasets {
      try DatasetPrecomputation(
        dataset: dataset, teacher: teacher, folder: cache.folder(of: dataset),
        manifest: CacheManifest(
          model.cacheDescription(run, dataset), logitScale: teacher.logitScale, type: cache.type,
          partSamples: cache.partSamples(of: dataset.count), version: Release.version, kernel: BLAS.kernel),
        loaders: loaders, ranks: ranks, log: log
      ).run()
    }
  }

  /// The run without `precision: auto` of its teacher. Every rank must call it.
  private func decided(_ run: RunConfig, _ datasets: [Dataset]) throws -> DecidedRun {
    guard let teacher = run.teacher, teacher.precision == .auto, let cache = teacher.cache else {
      return DecidedRun(precomputing: run, on: [], begun: nil)
    }
    // As one rank sees the cache: others may look while it is made.
    var begun: [UInt8] = []
    if ranks.rank == 0 {
      let found = try datasets.compactMap { try CacheManifest.read(cache.folder(of: $0)) }.first
      begun = [UInt8]((found.map { $0.description.teacher.precision ?? ComputePrecision.fp32.rawValue } ?? "").utf8)
    }
    try ranks.broadcast(&begun)
    return DecidedRun(
      precomputing: run, on: try RankProcessor.all(over: ranks),
      begun: ComputePrecision(rawValue: String(decoding: begun, as: UTF8.self)))
  }

  /// One rank reads every byte; what it finds stops all.
  private var check: Dataset.Check { run.data.verify == .checksums && ranks.rank == 0 ? .checksums : .sizes }

  /// A dataset that is mixed in twice is embedded once.
  private func distinct(_ datasets: [Dataset]) -> [Dataset] {
    var seen: Set<String> = []
    return datasets.filter { seen.insert($0.fingerprint).inserted }
  }

  private func log(_ line: String) {
    if ranks.rank == 0 { FileHandle.standardOutput.write(Data("\(line)\n".utf8)) }
  }
}

/// A run without what it takes to precompute anything.
struct NothingToPrecompute: ExitCoded, CustomStringConvertible {
  let hasTeacher: Bool

  var status: ExitStatus { .usage }
  var description: String {
    hasTeacher
      ? "teacher.cache is missing: name the folder for the embeddings, such as --set teacher.cache=caches/teacher"
      : "no term of the run's objective looks at a teacher: set teacher, and objective to one that learns from it"
  }
}
