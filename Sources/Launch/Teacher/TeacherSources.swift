import Dist
import Foundation
import Model
import Tensor

/// A source of the teacher's embeddings of batches.
protocol TeacherSource {
  var width: Int { get }
  /// The factor β = e^logit_scale of the teacher's similarities.
  var scale: Float { get }
  /// Allocates the memory for captions like these, in batches of `rows` pairs.
  func reserve(_ captions: CaptionSample, rows: Int)
  /// Writes the unit embeddings of a batch's images [b, d] and of their captions, in its order.
  func embed(_ batch: TrainingBatch, image: Tensor<Float>, text: Tensor<Float>) throws
}

/// A frozen model that embeds this rank's rows of every batch. Ranks that share sharded weights must call `embed`
/// together.
final class LiveTeacher: TeacherSource {
  let model: CLIP<Float>
  let microBatchSize: Int
  private let sharded: ShardedWeights?
  private let reciprocal = Buffer<Float>()

  init(_ model: CLIP<Float>, microBatchSize: Int?, sharded: ShardedWeights? = nil) {
    (self.model, self.microBatchSize, self.sharded) = (model, microBatchSize ?? Int.max, sharded)
  }

  var width: Int { model.config.embedding }
  var scale: Float { exp(model.logitScale.value[0]) }

  func reserve(_ captions: CaptionSample, rows: Int) {
    let held = min(rows, microBatchSize) * captions.perImage
    guard held > 0, captions.longest > 0 else { return }
    model.text.reserve(captions: held, tokens: captions.tokens(of: held), longest: captions.longest, mode: .evaluation)
  }

  func embed(_ batch: TrainingBatch, image: Tensor<Float>, text: Tensor<Float>) throws {
    guard let input = batch.teacher else { preconditionFailure("the batch was not prepared for a teacher") }
    let (captions, each, count) = (input.captions, batch.captionsPerImage, input.images.shape[0])
    let microBatches = stride(from: 0, to: count, by: microBatchSize).map {
      $0..<$0 + min(microBatchSize, count - $0)
    }
    let passes = try sharded?.group.allReduce(microBatches.count, .maximum) ?? microBatches.count
    for rows in microBatches {
      let texts = rows.lowerBound * each..<rows.upperBound * each
      let forward = { [self] in
        normalize(model.visual.forward(input.images.samples(rows), mode: .evaluation), into: image.rows(rows))
        normalize(model.text.forward(captions[texts], mode: .evaluation), into: text.rows(texts))
      }
      if let sharded { try sharded.pass(Array(captions[texts]), forward) } else { forward() }
    }
    // Ranks with more micro-batches need this rank's part of the weights for them.
    for _ in microBatches.count..<passes { try sharded?.pass([]) }
  }

  private func normalize(_ features: Tensor<Float>, into rows: Tensor<Float>) {
    normalizeRows(features, into: rows, reciprocal: reciprocal.tensor(Shape(features.rows)))
  }
}

/// A teacher whose embeddings `kinship precompute` has stored. Each rank reads only the rows of its own pairs.
final class CachedTeacher: TeacherSource {
  /// The cache of each dataset, in the run's order.
  private var caches: [TeacherCache]
  private let reciprocal = Buffer<Float>()

  /// Opens the caches; nil if the teacher has none. With `checking` and `data.verify: checksums`, the ranks verify
  /// every byte. Every rank must call it.
  init?(
    _ teacher: TeacherModel, _ run: RunConfig, _ datasets: [Dataset], checking: Bool, over ranks: Communicator
  ) throws {
    guard let cache = run.teacher?.cache else { return nil }
    caches = try datasets.map { dataset in
      let folder = cache.folder(of: dataset)
      var wanted = try teacher.cacheDescription(run, dataset)
      // The stored precision is taken: `auto` asks for the faster one, and here nothing is computed.
      if run.teacher?.precision == .auto, let found = try CacheManifest.read(folder) {
        wanted.teacher.precision = found.description.teacher.precision
      }
      return try TeacherCache(
        folder, wanted: wanted, check: checking && run.data.verify == .checksums ? .checksums : .sizes,
        communicator: ranks)
    }
    let precisions = caches.map { $0.manifest.description.teacher.precision ?? ComputePrecision.fp32.rawValue }
    guard Set(precisions).count <= 1 else {
      let list = zip(datasets, precisions).map { "\($0.name) in \($1)" }.joined(separator: ", ")
      throw UserError(
        cache.path,
        "holds the embeddings of \(list), and a run takes them in one precision; name a new folder in "
          + "teacher.cache and run kinship precompute, which takes one precision for all datasets")
    }
  }

  /// The arithmetic that the caches were computed with.
  var arithmetic: String { Set(caches.map(\.manifest.arithmeticText)).sorted().joined(separator: " and ") }
  /// The parts of each cache as files for `Staging`.
  var sources: [Staging.Source] { caches.map(\.source) }

  /// Has the embeddings read from copies of the caches in other folders.
  func read(from folders: [String]) { caches = zip(caches, folders).map { $0.reading(from: $1) } }

  var width: Int { caches[0].width }
  var scale: Float { exp(caches[0].manifest.logitScale) }
  func reserve(_ captions: CaptionSample, rows: Int) {}

  func embed(_ batch: TrainingBatch, image: Tensor<Float>, text: Tensor<Float>) throws {
    for (row, shown) in batch.rows.enumerated() {
      let cache = caches[shown.dataset]
      try cache.readImage(sample: shown.sample, view: shown.view, into: image.rows(row..<row + 1))
      for place in 0..<batch.captionsPerImage {
        let index = row * batch.captionsPerImage + place
        try cache.readText(caption: shown.caption(place), into: text.rows(index..<index + 1))
      }
    }
    // Rows that were stored in 16 bits do not have length 1.
    for rows in [image, text] { normalizeRows(rows, into: rows, reciprocal: reciprocal.tensor(Shape(rows.rows))) }
  }
}

/// The teachers of a run beside the first (`teacher.ensemble`), whose embeddings come from caches. Terms that follow
/// softmaxes follow the mean of all teachers'; all other terms use the first teacher alone.
struct Ensemble {
  private let models: [TeacherModel]
  let caches: [CachedTeacher]

  /// Opens the caches. Every rank must call it.
  init(_ run: RunConfig, _ datasets: [Dataset], checking: Bool, over ranks: Communicator) throws {
    let members = try run.ofFurtherTeachers.compactMap { run -> (run: RunConfig, model: TeacherModel)? in
      guard var model = try TeacherModel(run, over: ranks) else { return nil }
      try model.keepAlpha(ofCacheOf: datasets, over: ranks)
      return (run, model)
    }
    for (_, model) in members { try ranks.requireSame("teacher \(model.path)", model.identity) }
    models = members.map(\.model)
    caches = try members.compactMap { try CachedTeacher($0.model, $0.run, datasets, checking: checking, over: ranks) }
  }

  var shapes: [(width: Int, scale: Float)] { caches.map { ($0.width, $0.scale) } }

  /// Writes the embeddings of a batch, `rows` of `count` pairs, by `first` and all others to where the loss reads them.
  func embed(
    _ batch: TrainingBatch, first: any TeacherSource, _ rows: Range<Int>, of count: Int,
    into losses: CaptionLosses<Float>
  ) throws {
    for (index, teacher) in ([first] + caches).enumerated() {
      let target = losses.teacherRows(
        rows, of: count, captionsPerImage: batch.captionsPerImage, teacher: index)
      try teacher.embed(batch, image: target.image, text: target.text)
    }
  }

  /// Returns the first teacher with the ensemble, as the run's checkpoints store them; nil without a teacher.
  func saved(with first: TeacherModel?) -> SavedTeacher? {
    guard var saved = first?.saved else { return nil }
    if !models.isEmpty { saved.ensemble = models.map(\.saved) }
    return saved
  }

  /// Returns the header's line about the teachers and the terms that use them; nil without an ensemble.
  func text(_ first: TeacherModel?, _ options: ObjectiveOptions) -> String? {
    guard let first, !models.isEmpty else { return nil }
    let soft = options.keys(needing: .teacherSoftmaxes).joined(separator: ", ")
    let single = options.keys(needing: .teacherEmbeddings).joined(separator: ", ")
    let (follow, look) = (soft.contains(",") ? "follow" : "follows", single.contains(",") ? "look" : "looks")
    let others = zip(models, caches).map { "\($0.path) from \($0.cache ?? "") (computed with \($1.arithmetic))" }
    let teachers = (["\(first.path) from \(first.cache ?? "")"] + others).joined(separator: ", ")
    return "ensemble: \(soft) \(follow) the mean softmax of \(models.count + 1) teachers: \(teachers)"
      + (single.isEmpty ? "" : "; \(single) \(look) at the first alone")
  }
}
