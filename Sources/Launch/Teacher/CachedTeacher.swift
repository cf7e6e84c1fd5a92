import Dist
import Foundation
import Model
import Tensor

/// A teacher whose embeddings were computed beforehand. Each rank reads the rows of its own pairs, and nothing else.
final class CachedTeacher: TeacherSource {
  /// One a dataset, in the run's order.
  private let caches: [TeacherCache]
  private let reciprocal = Buffer<Float>()

  /// Opens the caches of a run's datasets; nil where the run names none. Every rank must call it; with `checking` they
  /// read every byte once where `data.verify` wants it.
  init?(
    _ teacher: TeacherModel, _ run: RunConfig, _ datasets: [Dataset], checking: Bool, over ranks: Communicator
  ) throws {
    guard let cache = run.teacher?.cache else { return nil }
    caches = try datasets.map { dataset in
      let folder = cache.folder(of: dataset)
      var wanted = try teacher.cacheDescription(run, dataset)
      // What is there is taken: `auto` asks for the quicker of two precisions, and nothing is computed.
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
        path: cache.path, status: .badData,
        reason: "holds the embeddings of \(list), and a run takes them in one precision; name a new folder in "
          + "teacher.cache and run kinship precompute, which takes one precision for all datasets")
    }
    for cache in caches { try ranks.requireSame("cache \(cache.folder)", "\(cache.manifest.parts.map(\.sha256))") }
  }

  var width: Int { caches[0].width }
  var scale: Float { exp(caches[0].manifest.logitScale) }

  func embed(_ batch: TrainingBatch, image: Tensor<Float>, text: Tensor<Float>) throws {
    for (row, shown) in batch.rows.enumerated() {
      let cache = caches[shown.dataset]
      try cache.readImage(sample: shown.sample, view: shown.view, into: image.rows(row..<row + 1))
      try cache.readText(caption: shown.caption, into: text.rows(row..<row + 1))
    }
    // Stored in 16 bits, rows are no longer of length 1.
    for rows in [image, text] { normalizeRows(rows, into: rows, reciprocal: reciprocal.tensor(Shape(rows.rows))) }
  }
}
