import Dist
import Foundation
import Model
import Tensor

/// A check of a finished cache: some crops and captions are embedded again, one at a time, and compared with the
/// embeddings that training would read from the cache.
struct SpotCheck {
  /// The number of crops, and of captions, on each rank.
  static let count = 4

  let dataset: Dataset
  let teacher: TeacherEncoder
  let manifest: CacheManifest
  let writer: CacheWriter
  let ranks: Communicator

  /// Returns the result as text. If an embedding differs on any rank, all invalidate the cache and throw. Every rank
  /// must call it.
  func run() throws -> String {
    let cache = try TeacherCache(writer.folder, wanted: manifest.description, check: .sizes, communicator: ranks)
    var (largest, failure) = (0.0, "")
    do {
      for (item, difference) in try differences(from: cache) {
        largest = max(largest, difference)
        // A difference that is NaN is a failure, too.
        guard failure.isEmpty, !(difference <= tolerance) else { continue }
        failure =
          "the stored embedding of \(item) differs by \(Figures.significant(difference, 3)) from what the "
          + "teacher computes now"
      }
    } catch { failure = "\(error)" }
    if let failure = try ranks.allGather(failure).first(where: { !$0.isEmpty }) {
      try writer.retract()
      throw UserError(
        "teacher cache \(writer.folder)",
        "\(failure): weights, dataset or cache have changed meanwhile. The cache was invalidated; run kinship "
          + "precompute again, which computes every part anew")
    }
    let worst = try ranks.allReduce(largest, .maximum)
    return "\(2 * Self.count * ranks.size) embeddings computed again differ by at most "
      + Figures.significant(worst, 2)
  }

  /// Returns the largest difference of an element for each embedding that is computed again.
  private func differences(from cache: TeacherCache) throws -> [(item: String, difference: Double)] {
    var random = KeyedRandom(seed: manifest.description.seed, purpose: "spot check", UInt64(ranks.rank))
    let row = Tensor<Float>(Shape(1, cache.width))
    var found: [(item: String, difference: Double)] = []
    func compare(_ item: String, with computed: Tensor<Float>) {
      found.append((item, zip(row.array, computed.array).map { abs(Double($0) - Double($1)) }.max() ?? 0))
    }
    let count = dataset.count == 0 ? 0 : Self.count
    let crops = (0..<count).map { _ in
      TeacherEncoder.Crop(sample: random.below(dataset.count), view: random.below(manifest.description.views))
    }
    let loader = teacher.loader(dataset, blocks: count, height: 1, workers: 1, crops: { [crops[$0]] })
    for crop in crops {
      guard let block = try loader.next() else { preconditionFailure("a block was planned for each call") }
      let item = "the image “\(dataset.key(crop.sample))” of \(dataset.name), view \(crop.view)"
      try cache.readImage(sample: crop.sample, view: crop.view, into: row)
      compare(item, with: try teacher.embed(block.images(1)) { _ in item })
      loader.recycle(block)
    }
    let captions = dataset.index.totals.captions
    for _ in 0..<(captions == 0 ? 0 : Self.count) {
      let caption = random.below(captions)
      let item = "the caption “\(dataset.caption(caption))” of \(dataset.name)"
      try cache.readText(caption: caption, into: row)
      compare(item, with: try teacher.embed([dataset.caption(caption)]) { _ in item })
    }
    return found
  }

  /// The largest difference that rounding explains: half a unit in the last place of the stored numbers, which are at
  /// most 1, and the rounding of matrix products.
  private var tolerance: Double {
    switch manifest.type {
    case .fp32: 1e-4
    case .fp16: 1e-3
    case .bf16: 5e-3
    }
  }
}
