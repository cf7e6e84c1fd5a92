import Dist
import Foundation
import Model
import Tensor

/// All corpora of a run, embedded by each of its teachers into a cache.
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
    let corpora = try distinct(run.data.corpora.map { try Corpus.open($0.path, check: check) })
    for corpus in corpora { try ranks.requireSame("corpus \(corpus.name)", corpus.fingerprint) }
    if plan.compute > 1 {
      say(
        "warning: each rank has cores for \(plan.compute) compute threads and uses one, so that the bits are the same for "
          + "any number of ranks; start one rank a core")
    }
    for run in [run] + run.ofFurtherTeachers { try embed(corpora, as: run, loaders) }
  }

  /// Embeds all corpora by the teacher of `run`.
  private func embed(_ corpora: [Corpus], as run: RunConfig, _ loaders: Int) throws {
    let decided = try decided(run, corpora)
    let run = decided.run
    guard var model = try TeacherModel(run, over: ranks, checksum: .whenRead), let cache = run.teacher?.cache else {
      return
    }
    // Each rank embeds blocks at its own pace, and spread weights need all ranks at once.
    guard model.placement != .spread else {
      throw ModelFileError(
        path: model.path, exitCode: 64,
        reason: "its weights cannot be spread while its embeddings are computed ahead; set teacher.placement to node "
          + "or replicated: --set teacher.placement=node")
    }
    try ranks.requireSame("teacher", model.identity)
    let weights = try model.load(over: ranks)
    say(
      "kinship \(Release.version)  teacher \(model.path) (SHA-256 \(model.sha256)), embedding \(model.config.embedding); "
        + "\(ranks.size) \(ranks.size == 1 ? "rank" : "ranks") of one compute thread each, BLAS kernel \(BLAS.kernel)")
    say(weights.text)
    for text in decided.precision { say("precision \(text)") }
    if let note = model.precision.note { say(note) }
    for warning in model.precision.warnings { say("warning: \(warning)") }
    let teacher = PrecomputingTeacher(weights.model, model.input, seed: run.data.seed)
    for corpus in corpora {
      try CorpusPrecomputation(
        corpus: corpus, teacher: teacher, folder: cache.folder(of: corpus),
        manifest: CacheManifest(
          model.cacheDescription(run, corpus), logitScale: teacher.logitScale, type: cache.type,
          partSamples: cache.partSamples(of: corpus.count), version: Release.version, kernel: BLAS.kernel),
        loaders: loaders, ranks: ranks, say: say
      ).run()
    }
  }

  /// The run without `precision: auto` of its teacher. Every rank must call it.
  private func decided(_ run: RunConfig, _ corpora: [Corpus]) throws -> DecidedRun {
    guard let teacher = run.teacher, teacher.precision == .auto, let cache = teacher.cache else {
      return DecidedRun(precomputing: run, on: [], begun: nil)
    }
    // As one rank sees the cache: others may look while it is made.
    var begun: [UInt8] = []
    if ranks.rank == 0 {
      let found = try corpora.compactMap { try CacheManifest.read(cache.folder(of: $0)) }.first
      begun = [UInt8]((found.map { $0.description.teacher.precision ?? Precision.fp32.rawValue } ?? "").utf8)
    }
    try ranks.broadcast(&begun)
    return DecidedRun(
      precomputing: run, on: try RankProcessor.all(over: ranks),
      begun: Precision(rawValue: String(decoding: begun, as: UTF8.self)))
  }

  /// One rank reads every byte; what it finds stops all.
  private var check: Corpus.Check { run.data.verify == .checksums && ranks.rank == 0 ? .checksums : .sizes }

  /// A corpus that is mixed in twice is embedded once.
  private func distinct(_ corpora: [Corpus]) -> [Corpus] {
    var seen: Set<String> = []
    return corpora.filter { seen.insert($0.fingerprint).inserted }
  }

  private func say(_ line: String) {
    if ranks.rank == 0 { FileHandle.standardOutput.write(Data("\(line)\n".utf8)) }
  }
}

/// A run without what it takes to precompute anything.
struct NothingToPrecompute: ExitCoded, CustomStringConvertible {
  let hasTeacher: Bool

  var exitCode: Int32 { 64 }
  var description: String {
    hasTeacher
      ? "teacher.cache is missing: name the folder for the embeddings, such as --set teacher.cache=caches/teacher"
      : "no term of the run's objective looks at a teacher: set teacher, and objective to one that learns from it"
  }
}
