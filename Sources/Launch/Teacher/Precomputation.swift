import Dist
import Foundation
import Model
import Tensor

/// Embeds all datasets of a run, and those of its held-out losses, by each of its teachers, or takes embeddings from
/// files, and stores them in the teachers' caches.
struct Precomputation {
  let run: RunConfig
  let ranks: Communicator
  /// The files of another program's embeddings; nil to compute them.
  var source: EmbeddingImport.Source?

  /// Every rank must call it. Rank 0 prints the progress. Returns `done`, or `tryAgain` after a signal, with every
  /// complete part kept.
  func perform() throws -> ExitStatus {
    do {
      try ranks.requireSameStart(run.yaml + (source?.text ?? ""))
      if let source { try take(source) } else { try embedAll() }
      return .done
    } catch let stop as StopRequest.Interruption {
      log("stopped by \(stop.signal); every complete part is kept: go on with the same command")
      return .tryAgain
    }
  }

  private func embedAll() throws {
    guard run.usesTeacher else {
      throw UserError(
        "no term of the run's objective uses a teacher: set teacher, and objective to one that learns from it",
        status: .usage)
    }
    guard run.teacher?.cache != nil else { throw Self.noCache }
    guard !([run] + run.ofFurtherTeachers).allSatisfy({ $0.teacher?.isImported == true }) else {
      throw UserError(
        "the run names no teacher.model, so there is nothing to compute: name one, or give the embeddings of another "
          + "program by --from", status: .usage)
    }
    let plan = try ThreadPlan.agreed(over: ranks)
    // The last bits of BLAS depend on the number of threads, but embeddings must not depend on a rank's cores.
    let loaders = max(plan.compute + plan.loaders - 1, 1)
    Threads.count = 1
    if plan.compute > 1 {
      log(
        "warning: each rank has cores for \(plan.compute) compute threads and uses one, so that the bits are the same "
          + "for any number of ranks; start one rank for each core")
    }
    let losses = run.evaluate.evaluations.filter { $0.kind == .loss }
    for run in [run] + losses.map({ run.heldOut($0.dataset) }) {
      let datasets = try datasets(of: run)
      if run.data.verify == .checksums {
        try Dataset.verify(datasets, over: ranks) { try StopRequest.check(over: ranks) }
      }
      for run in [run] + run.ofFurtherTeachers { try embed(datasets, as: run, loaders) }
    }
  }

  private static let noCache = UserError(
    "teacher.cache is missing: name the folder for the embeddings, such as --set teacher.cache=caches/teacher",
    status: .usage)

  /// Opens the datasets of a run, each once.
  private func datasets(of run: RunConfig) throws -> [Dataset] {
    var seen: Set<String> = []
    return try run.data.datasets.map { try Dataset.open($0.path, over: ranks) }
      .filter { seen.insert($0.fingerprint).inserted }
  }

  /// Makes the first teacher's cache from files.
  private func take(_ source: EmbeddingImport.Source) throws {
    guard let teacher = run.teacher, let cache = teacher.cache else { throw Self.noCache }
    guard teacher.isImported else {
      throw UserError(
        "--from has the embeddings of another program's model, and teacher.model names \(teacher.model): leave it out, "
          + "as in teacher: {cache: \(cache.path)}", status: .usage)
    }
    let datasets = try datasets(of: run)
    guard let dataset = datasets.first, datasets.count == 1 else {
      throw UserError(
        "--from makes the cache of one dataset, and the run has \(datasets.count): run it for each, with "
          + "--set \"data.datasets=[PATH]\" and the files of this dataset", status: .usage)
    }
    let work = try EmbeddingImport(source, of: dataset, over: ranks, log: log)
    try holding(cache, of: dataset) { try work.write(to: $0, cache) }
  }

  /// Runs `body` with the folder of a dataset's cache, to which no other job writes meanwhile.
  private func holding(_ cache: CacheConfig, of dataset: Dataset, _ body: (_ folder: String) throws -> Void) throws {
    let folder = try ranks.broadcast {
      try Publish.makeFolder(cache.folder(of: dataset))
      return cache.folder(of: dataset)
    }
    let lock = try FolderLock(folder, over: ranks)
    if let note = lock.note { log("warning: \(note)") }
    do { try body(folder) } catch let stop as StopRequest.Interruption {
      lock.release()
      throw stop
    }
    lock.release()
  }

  private func embed(_ datasets: [Dataset], as run: RunConfig, _ loaders: Int) throws {
    let decided = try decided(run, datasets)
    let run = decided.run
    guard var model = try TeacherModel(run, over: ranks, checksum: .whenRead), let cache = run.teacher?.cache else {
      return
    }
    // Sharded weights need all ranks together, but here ranks have different numbers of blocks.
    guard run.teacher?.placement != .sharded else {
      throw UserError(
        model.path,
        "its weights cannot be sharded while its embeddings are precomputed; set teacher.placement to node "
          + "or replicated: --set teacher.placement=node", status: .usage)
    }
    try model.keepAlpha(ofCacheOf: datasets, over: ranks)
    try ranks.requireSame("teacher", model.identity)
    try model.requireFit()
    try model.config.requireMemory(
      model.path, pairs: max(DatasetPrecomputation.height, run.data.views),
      holders: run.teacher?.placement == .node ? ranks.nodeSize : 1, over: ranks)
    let weights = try model.load(over: ranks)
    let about =
      "teacher \(model.path) (SHA-256 \(model.sha256)), embedding \(model.config.embedding), "
      + "alpha \(model.input.image.alpha.rawValue)"
    let used = "\(Figures.count(ranks.size, "rank")) of one compute thread each, BLAS kernel \(BLAS.kernel)"
    log("kinship \(Release.version)  \(about); \(used)")
    log(weights.text)
    for text in decided.precision { log("precision \(text)") }
    if let note = model.precision.note { log(note) }
    let arithmetic = try ranks.arithmetic(model.precision.used)
    log("arithmetic \(arithmetic.text)")
    for warning in model.precision.warnings + [arithmetic.warning].compactMap({ $0 }) { log("warning: \(warning)") }
    let teacher = TeacherEncoder(model: weights.model, input: model.input, seed: run.data.seed)
    for dataset in datasets {
      try holding(cache, of: dataset) { folder in
        let manifest = CacheManifest(
          try model.cacheDescription(run, dataset), logitScale: weights.model.logitScale.value[0], type: cache.type,
          partSamples: cache.partSamples(of: dataset.count), version: Release.version, kernel: BLAS.kernel,
          arithmetic: arithmetic)
        try DatasetPrecomputation(
          dataset: dataset, teacher: teacher, folder: folder, manifest: manifest, loaders: loaders, ranks: ranks,
          log: log
        ).run()
      }
    }
  }

  private func decided(_ run: RunConfig, _ datasets: [Dataset]) throws -> DecidedRun {
    guard let teacher = run.teacher, teacher.precision == .auto, let cache = teacher.cache else {
      return DecidedRun(precomputing: run, on: [], begun: nil)
    }
    // Rank 0 looks for all ranks, because others might look while the cache is created.
    let begun = try ranks.broadcast {
      let manifest = try datasets.compactMap { try CacheManifest.read(cache.folder(of: $0)) }.first
      return manifest.map { $0.description.teacher.precision ?? ComputePrecision.fp32.rawValue } ?? ""
    }
    return DecidedRun(
      precomputing: run, on: try RankProcessor.all(over: ranks), begun: ComputePrecision(rawValue: begun))
  }

  private func log(_ line: String) { if ranks.rank == 0 { StandardOutput.show(line) } }
}
