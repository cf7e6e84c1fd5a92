import Dist
import Foundation
import Model
import Tensor

/// A teacher whose embeddings `kinship precompute` has stored. Each rank reads only the rows of its own pairs.
final class CachedTeacher: TeacherSource {
  /// The cache of each dataset, in the run's order.
  private let caches: [TeacherCache]
  private let reciprocal = Buffer<Float>()

  /// Opens the caches of a run's datasets; nil if the teacher has no cache. With `checking`, the ranks verify every
  /// byte if `data.verify` asks for checksums. Every rank must call it.
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
    for cache in caches { try ranks.requireSame("cache \(cache.folder)", "\(cache.manifest.parts.map(\.sha256))") }
  }

  var width: Int { caches[0].width }
  var scale: Float { exp(caches[0].manifest.logitScale) }

  /// Does nothing, since captions take no memory here.
  func reserve(_ captions: CaptionSample, rows: Int) {}

  func embed(_ batch: TrainingBatch, image: Tensor<Float>, text: Tensor<Float>) throws {
    for (row, shown) in batch.rows.enumerated() {
      let cache = caches[shown.dataset]
      try cache.readImage(sample: shown.sample, view: shown.view, into: image.rows(row..<row + 1))
      try cache.readText(caption: shown.caption, into: text.rows(row..<row + 1))
    }
    // Rows that were stored in 16 bits do not have length 1.
    for rows in [image, text] { normalizeRows(rows, into: rows, reciprocal: reciprocal.tensor(Shape(rows.rows))) }
  }
}
