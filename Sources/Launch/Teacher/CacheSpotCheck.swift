import Dist
import Model
import Tensor

extension DatasetPrecomputation {
  private static let checked = 4

  /// Embeds some crops and captions again, one at a time, and compares them with what training would read from the
  /// cache. If an embedding differs on any rank, all invalidate the cache and throw. Every rank must call it.
  func spotCheck(_ writer: CacheWriter) throws -> String {
    let cache = try TeacherCache(writer.folder, wanted: manifest.description, check: .sizes, communicator: ranks)
    var (largest, failure) = (0.0, "")
    do {
      for (item, difference) in try differences(from: cache) {
        largest = max(largest, difference)
        // A difference that is NaN is a failure, too.
        guard failure.isEmpty, !(difference <= tolerance) else { continue }
        let amount = Figures.significant(difference, 3)
        failure = "the stored embedding of \(item) differs by \(amount) from what the teacher computes now"
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
    let count = 2 * Self.checked * ranks.size
    return "\(count) embeddings computed again differ by at most \(Figures.significant(worst, 2))"
  }

  /// Returns the largest difference of an element for each embedding that is computed again.
  private func differences(from cache: TeacherCache) throws -> [(item: String, difference: Double)] {
    var random = KeyedRandom(seed: manifest.description.seed, purpose: "spot check", UInt64(ranks.rank))
    let row = Tensor<Float>(Shape(1, cache.width))
    var found: [(item: String, difference: Double)] = []
    func compare(_ item: String, with computed: Tensor<Float>) {
      found.append((item, zip(row.array, computed.array).map { abs(Double($0) - Double($1)) }.max() ?? 0))
    }
    let crops = (0..<(dataset.count == 0 ? 0 : Self.checked)).map { _ in
      TeacherEncoder.Crop(sample: random.below(dataset.count), view: random.below(views))
    }
    let loader = teacher.loader(dataset, blocks: crops.count, height: 1, workers: 1, crops: { [crops[$0]] })
    for crop in crops {
      guard let block = try loader.next() else { preconditionFailure("a block was planned for each call") }
      let item = "the image “\(dataset.key(crop.sample))” of \(dataset.name), view \(crop.view)"
      try cache.readImage(sample: crop.sample, view: crop.view, into: row)
      compare(item, with: try teacher.embed(block.images.samples(0..<1)) { _ in item })
      loader.recycle(block)
    }
    let captions = dataset.index.totals.captions
    for _ in 0..<(captions == 0 ? 0 : Self.checked) {
      let caption = random.below(captions)
      let item = "the caption “\(dataset.caption(caption))” of \(dataset.name)"
      try cache.readText(caption: caption, into: row)
      compare(item, with: try teacher.embed([dataset.caption(caption)]) { _ in item })
    }
    return found
  }

  /// The largest difference that rounding explains, of stored numbers, which are at most 1, and of matrix products.
  private var tolerance: Double { manifest.type == .fp32 ? 1e-4 : manifest.type == .fp16 ? 1e-3 : 5e-3 }
}
