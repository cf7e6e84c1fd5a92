import Dist
import Foundation
import Model
import Tensor

/// Embeds all datasets of a run by each of its teachers, and stores the embeddings in the teachers' caches.
struct Precomputation {
  let run: RunConfig
  let ranks: Communicator

  /// Every rank must call it. Rank 0 prints the progress.
  func perform() throws {
    try ranks.requireSame("run", run.yaml)
    guard run.usesTeacher else {
      throw UserError(
        nil, "no term of the run's objective uses a teacher: set teacher, and objective to one that learns from it",
        status: .usage)
    }
    guard run.teacher?.cache != nil else {
      throw UserError(
        nil, "teacher.cache is missing: name the folder for the embeddings, such as --set teacher.cache=caches/teacher",
        status: .usage)
    }
    let plan = try ThreadPlan.agreed(over: ranks)
    // The last bits of BLAS depend on the number of threads, but embeddings must not depend on a rank's cores.
    let loaders = max(plan.compute + plan.loaders - 1, 1)
    Threads.count = 1
    let datasets = try distinct(run.data.datasets.map { try Dataset.open($0.path, check: check) })
    for dataset in datasets { try ranks.requireSame("dataset \(dataset.name)", dataset.fingerprint) }
    if plan.compute > 1 {
      log(
        "warning: each rank has cores for \(plan.compute) compute threads and uses one, so that the bits are the same "
          + "for any number of ranks; start one rank for each core")
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
    // Sharded weights need all ranks together, but here each rank embeds blocks at its own pace.
    guard model.placement != .sharded else {
      throw UserError(
        model.path,
        "its weights cannot be sharded while its embeddings are precomputed; set teacher.placement to node "
          + "or replicated: --set teacher.placement=node",
        status: .usage)
    }
    try ranks.requireSame("teacher", model.identity)
    let weights = try model.load(over: ranks)
    log(
      "kinship \(Release.version)  teacher \(model.path) (SHA-256 \(model.sha256)), "
        + "embedding \(model.config.embedding); "
        + "\(ranks.size) \(ranks.size == 1 ? "rank" : "ranks") of one compute thread each, BLAS kernel \(BLAS.kernel)"
    )
    log(weights.text)
    for text in decided.precision { log("precision \(text)") }
    if let note = model.precision.note { log(note) }
    for warning in model.precision.warnings { log("warning: \(warning)") }
    let teacher = TeacherEncoder(model: weights.model, input: model.input, seed: run.data.seed)
    for dataset in datasets {
      try DatasetPrecomputation(
        dataset: dataset, teacher: teacher, folder: cache.folder(of: dataset),
        manifest: CacheManifest(
          model.cacheDescription(run, dataset), logitScale: weights.model.logitScale.value[0], type: cache.type,
          partSamples: cache.partSamples(of: dataset.count), version: Release.version, kernel: BLAS.kernel),
        loaders: loaders, ranks: ranks, log: log
      ).run()
    }
  }

  /// Decides `precision: auto` of the run's teacher. Every rank must call it.
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

  /// Rank 0 verifies every byte for all ranks; its error stops them.
  private var check: Dataset.Check { run.data.verify == .checksums && ranks.rank == 0 ? .checksums : .sizes }

  /// Returns the datasets without repetitions.
  private func distinct(_ datasets: [Dataset]) -> [Dataset] {
    var seen: Set<String> = []
    return datasets.filter { seen.insert($0.fingerprint).inserted }
  }

  private func log(_ line: String) {
    if ranks.rank == 0 { FileHandle.standardOutput.write(Data("\(line)\n".utf8)) }
  }
}

/// Embeds one dataset into its folder of a cache, on all ranks.
///
/// The bits of a row depend on the height of the matrix product that computes it. So each part is encoded in blocks of
/// fixed samples and captions, and whole parts are dealt to the ranks.
struct DatasetPrecomputation {
  /// The number of captions that are encoded together, and the most crops unless one image has more.
  private static let height = 64

  let dataset: Dataset
  let teacher: TeacherEncoder
  let folder: String
  let manifest: CacheManifest
  /// The number of threads that prepare crops.
  let loaders: Int
  let ranks: Communicator
  let log: (String) -> Void

  /// Every rank must call it.
  func run() throws {
    let start = ContinuousClock.now
    let writer = try CacheWriter(folder, manifest, communicator: ranks)
    for note in writer.notes { log("warning: \(note)") }
    let found = try writer.soundParts()
    let missing = (0..<manifest.partCount).filter { found[$0] == nil }
    log(
      "\(dataset.name)  \(dataset.count) images in \(views) \(views == 1 ? "view" : "views"), "
        + "\(dataset.index.totals.captions) captions, to \(folder): \(manifest.partCount) parts, "
        + "\(found.count) of them there already")
    if ranks.rank == 0 {
      try writer.requireSpace(
        missing.reduce(0) { $0 + writer.bytes(ofPart: $1, captions: captions(ofPart: $1).count) })
    }
    let own = stride(from: ranks.rank, to: missing.count, by: ranks.size).map { missing[$0] }
    let written = try write(own, with: writer, all: missing)
    let whole = try writer.finish(Array(found.values) + written)
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    let done = missing.reduce(0) { $0 + manifest.samples(ofPart: $1).count } * views
    if done > 0 {
      log(
        "\(dataset.name)  \(done) crops and their captions in \(Figures.duration(seconds)): "
          + "\(Figures.significant(Double(done) / seconds, 3)) crops a second")
    }
    let checked = try SpotCheck(dataset: dataset, teacher: teacher, manifest: whole, writer: writer, ranks: ranks).run()
    log("\(dataset.name)  complete; \(checked)")
  }

  private var views: Int { manifest.description.views }

  private func captions(ofPart index: Int) -> Range<Int> {
    let samples = manifest.samples(ofPart: index)
    return dataset.firstCaption(samples.lowerBound)..<dataset.firstCaption(samples.upperBound)
  }

  /// Returns the samples of a part in the blocks in which their crops are encoded. All crops of an image are in one
  /// block.
  private func blocks(ofPart index: Int) -> [Range<Int>] {
    Self.blocks(manifest.samples(ofPart: index), of: max(Self.height / views, 1))
  }

  private static func blocks(_ range: Range<Int>, of height: Int) -> [Range<Int>] {
    stride(from: range.lowerBound, to: range.upperBound, by: height).map { $0..<min($0 + height, range.upperBound) }
  }

  /// Computes and writes this rank's parts `own` of all missing ones. Returns their records.
  private func write(_ own: [Int], with writer: CacheWriter, all: [Int]) throws -> [CacheManifest.Part] {
    let planned = own.flatMap { blocks(ofPart: $0) }
    let loader = teacher.loader(
      dataset, blocks: planned.count, height: max(Self.height / views, 1) * views, workers: loaders,
      crops: { [views] index in
        planned[index].flatMap { sample in (0..<views).map { TeacherEncoder.Crop(sample: sample, view: $0) } }
      })
    var progress = PrecomputeProgress(
      dataset: dataset.name, own: planned.reduce(0) { $0 + $1.count } * views,
      all: all.reduce(0) { $0 + manifest.samples(ofPart: $1).count } * views, log: log)
    return try own.map { index in
      let part = try writer.part(index, captions: captions(ofPart: index))
      do {
        for samples in blocks(ofPart: index) {
          guard let block = try loader.next() else { preconditionFailure("a block was planned for each call") }
          defer { loader.recycle(block) }
          let rows = try teacher.embed(block.images(samples.count * views)) {
            "the image “\(dataset.key(samples.lowerBound + $0 / views))” of \(dataset.name)"
          }
          try part.write(images: rows, of: samples)
          progress.add(rows.rows)
        }
        for captions in Self.blocks(captions(ofPart: index), of: Self.height) {
          let texts = captions.map { dataset.caption($0) }
          try part.write(texts: teacher.embed(texts) { "the caption “\(texts[$0])” of \(dataset.name)" }, of: captions)
        }
        return try part.finish()
      } catch {
        part.abandon()
        throw error
      }
    }
  }
}

/// Logs every ten seconds how far the ranks are, estimated from the progress of this one.
private struct PrecomputeProgress {
  let dataset: String
  /// The crops of this rank, and of all ranks.
  let own: Int
  let all: Int
  let log: (String) -> Void
  var done = 0
  var next = 10.0
  let start = ContinuousClock.now

  mutating func add(_ count: Int) {
    done += count
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    guard seconds >= next else { return }
    next = seconds + 10
    let share = Double(done) / Double(own)
    log(
      "\(dataset)  \(Int(share * 100)) %  \(Figures.significant(share * Double(all) / seconds, 3)) crops a second"
        + "  \(Figures.duration(seconds / share - seconds)) left")
  }
}
