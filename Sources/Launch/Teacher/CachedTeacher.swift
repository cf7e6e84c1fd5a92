import Dist
import Foundation
import Model
import Tensor

/// A teacher whose embeddings `kinship precompute` has stored. Each rank reads only the rows of its own pairs.
final class CachedTeacher: TeacherSource {
  /// The cache of each dataset, in the run's order.
  private(set) var caches: [TeacherCache]
  /// The folder of all of them.
  let folder: String
  let saved: SavedTeacher
  private let reciprocal = Buffer<Float>()

  /// Opens the caches; nil if the run uses no teacher, or if it has none. Without a `teacher` another program computed
  /// the embeddings. Only terms with all of these needs read them. With `checking` and `data.verify: checksums`, the
  /// ranks verify every byte. Every rank must call it.
  init?(
    _ teacher: TeacherModel?, _ run: RunConfig, _ datasets: [Dataset], needing needs: TermNeeds = [], checking: Bool,
    over ranks: Communicator
  ) throws {
    guard run.usesTeacher, let cache = run.teacher?.cache else { return nil }
    let caches = try datasets.map { dataset -> TeacherCache in
      let folder = cache.folder(of: dataset)
      let found = try CacheManifest.read(folder)?.description
      guard teacher != nil || found != nil else {
        throw UserError(
          folder,
          "holds no embeddings of the dataset \(dataset.name); run kinship precompute --from FILES --set "
            + "\"data.datasets=[PATH]\" --set teacher.cache=\(cache.path) first", status: .inputOutput)
      }
      let wanted =
        try teacher?.cacheDescription(run, dataset, found) ?? found.map { try $0.asked(by: run, dataset, folder) }
      return try TeacherCache(
        folder, wanted: wanted, check: checking && run.data.verify == .checksums ? .checksums : .sizes,
        communicator: ranks)
    }
    (self.caches, folder) = (caches, cache.path)
    let sums = Set(caches.map { $0.manifest.description.teacher.sha256 }).sorted().joined(separator: " ")
    saved = teacher?.saved ?? SavedTeacher(path: cache.path, sha256: sums)
    try requireOneForm(datasets)
    let kind = caches[0].manifest.description
    let refused = run.objective.refusals(
      of: (kind.imageWidth > 0, kind.textWidth > 0, kind.imported?.isScaled ?? true), needing: needs)
    guard refused.isEmpty else {
      throw UserError(
        folder,
        "its embeddings lack what terms of the objective need: "
          + refused.map { "\($0.key) \($0.reason)" }.joined(separator: "; ")
          + "; give these terms no weight, or for intra set intra_options.image or text to 0, or its temperature to "
          + "fixed_tau")
    }
  }

  private func requireOneForm(_ datasets: [Dataset]) throws {
    func require(_ advice: String, _ fact: (CacheManifest) -> String) throws {
      let facts = caches.map { fact($0.manifest) }
      guard Set(facts).count > 1 else { return }
      let list = zip(datasets, facts).map { "\($0.name) in \($1)" }.joined(separator: ", ")
      throw UserError(folder, "holds the embeddings of \(list), and a run takes them in one \(advice)")
    }
    try require(
      "precision; name a new folder in teacher.cache and run kinship precompute, which takes one precision for all "
        + "datasets"
    ) { $0.description.teacher.precision ?? ComputePrecision.fp32.rawValue }
    try require("form: embed all datasets with the same model") { manifest in
      let about = manifest.description
      return "widths \(about.imageWidth) and \(about.textWidth), logit_scale \(manifest.logitScale)"
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
  var hasImages: Bool { caches[0].manifest.description.imageWidth > 0 }
  /// The SHA-256 of the boxes of each dataset's crops; nil for crops that the run determines.
  var boxes: [String?] { caches.map { $0.manifest.description.imported?.boxes } }
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

extension TeacherModel {
  /// Describes the cache that the run asks for, where one was `found`.
  fileprivate func cacheDescription(
    _ run: RunConfig, _ dataset: Dataset, _ found: CacheDescription?
  ) throws -> CacheDescription {
    var wanted = try cacheDescription(run, dataset)
    // The stored precision is taken: `auto` asks for the faster one, and here nothing is computed.
    if run.teacher?.precision == .auto, let found { wanted.teacher.precision = found.teacher.precision }
    return wanted
  }
}

extension CacheDescription {
  /// Describes the cache that a run without a teacher's model asks for, where this one lies in `folder`. Throws if the
  /// student would see other crops than the teacher.
  fileprivate func asked(by run: RunConfig, _ dataset: Dataset, _ folder: String) throws -> CacheDescription {
    func require(_ fact: Bool, _ problem: @autoclosure () -> String) throws {
      if !fact { throw UserError(folder, problem(), status: .usage) }
    }
    guard let imported else {
      throw UserError(folder, "its embeddings are those of the model \(teacher.path); name it in teacher.model")
    }
    var wanted = self
    wanted.dataset = Source(dataset)
    guard imported.image > 0 else { return wanted }
    guard imported.boxes != nil else {
      try require(
        run.image.isFixed,
        "it has no boxes, so its embeddings are those of central crops, which the student must see: set image.crop "
          + "to center, and leave color_jitter and grayscale at 0")
      return wanted
    }
    try require(
      run.image.crop == .random,
      "its embeddings are those of crops whose boxes it has, and image.crop is center; set image.crop to random, or, "
        + "for a held-out loss, give the embeddings of central crops, without boxes")
    try require(
      run.image.colorJitter.probability == 0 && run.image.grayscale == 0,
      "its embeddings are those of crops in their own colours; set image.color_jitter.probability and image.grayscale "
        + "to 0")
    try require(
      1...views ~= run.data.views,
      "it has \(Figures.count(views, "crop")) of each image, and data.views is \(run.data.views); set data.views to a "
        + "number from 1 to \(views)")
    wanted.views = run.data.views
    return wanted
  }
}

extension TeacherCache {
  /// Returns the region of an image's crop; nil if the cache has no boxes.
  func region(sample: Int, view: Int) throws -> CropRegion? {
    guard let box = try box(sample: sample, view: view) else { return nil }
    guard let region = CropRegion(box) else {
      throw UserError(folder, "is damaged: the box of sample \(sample), view \(view), is \(box)")
    }
    return region
  }
}

extension CacheConfig {
  /// Returns the width of the embeddings that a cache holds, whichever datasets they are of. Every rank must call it.
  func importedWidth(over ranks: Communicator) throws -> Int {
    try ranks.broadcast {
      let folders = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
      for folder in folders.sorted() {
        if let found = try CacheManifest.read("\(path)/\(folder)") { return found.description.teacher.width }
      }
      throw UserError(
        path,
        "there is no cache, so the width of the teacher's embeddings is not known; run kinship precompute --from first",
        status: .inputOutput)
    }
  }
}

/// The teachers of a run beside the first (`teacher.ensemble`), whose embeddings come from caches. Terms that follow
/// softmaxes follow the mean of all teachers'; all other terms use the first teacher alone.
struct Ensemble {
  let caches: [CachedTeacher]

  /// Opens the caches. Every rank must call it.
  init(_ run: RunConfig, _ datasets: [Dataset], checking: Bool, over ranks: Communicator) throws {
    let members = try run.ofFurtherTeachers.map { run -> (run: RunConfig, model: TeacherModel?) in
      var model = try TeacherModel(run, over: ranks)
      try model?.keepAlpha(ofCacheOf: datasets, over: ranks)
      return (run, model)
    }
    for model in members.compactMap(\.model) { try ranks.requireSame("teacher \(model.path)", model.identity) }
    caches = try members.compactMap {
      try CachedTeacher($0.model, $0.run, datasets, needing: .teacherSoftmaxes, checking: checking, over: ranks)
    }
  }

  var shapes: [(width: Int, scale: Float)] { caches.map { ($0.width, $0.scale) } }

  /// Returns the caches with the boxes to which the student's images are cropped, one for each dataset; nil if the run
  /// determines its crops. Throws unless all teachers have seen the same.
  func crops(with first: CachedTeacher?) throws -> [TeacherCache]? {
    let all = ([first].compactMap { $0 } + caches).filter(\.hasImages)
    guard let boxed = all.first(where: { $0.boxes.contains { $0 != nil } }) else { return nil }
    if let other = all.first(where: { $0.boxes != boxed.boxes }) {
      throw UserError(
        other.folder,
        "has other crops than \(boxed.folder), whose boxes were given, and the student can see only one; embed the "
          + "same crops with both teachers")
    }
    return boxed.caches
  }

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
  func saved(with first: SavedTeacher?) -> SavedTeacher? {
    guard var saved = first else { return nil }
    if !caches.isEmpty { saved.ensemble = caches.map(\.saved) }
    return saved
  }

  /// Returns the header's line about the teachers and the terms that use them; nil without an ensemble.
  func text(_ first: CachedTeacher?, _ options: ObjectiveOptions) -> String? {
    guard let first, !caches.isEmpty else { return nil }
    let soft = options.keys(needing: .teacherSoftmaxes).joined(separator: ", ")
    let single = options.keys(needing: .teacherEmbeddings).joined(separator: ", ")
    let (follow, look) = (soft.contains(",") ? "follow" : "follows", single.contains(",") ? "look" : "looks")
    let others = caches.map { "\($0.saved.path) from \($0.folder) (computed with \($0.arithmetic))" }
    let teachers = (["\(first.saved.path) from \(first.folder)"] + others).joined(separator: ", ")
    return "ensemble: \(soft) \(follow) the mean softmax of \(caches.count + 1) teachers: \(teachers)"
      + (single.isEmpty ? "" : "; \(single) \(look) at the first alone")
  }
}
