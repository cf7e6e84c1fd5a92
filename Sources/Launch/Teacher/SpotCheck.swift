import Dist
import Foundation
import Model
import Tensor

/// A look at a finished cache: some crops and captions are embedded again, one at a time, and compared with what the
/// cache gives to training.
struct SpotCheck {
  /// Of each kind, on each rank.
  static let count = 4

  let dataset: Dataset
  let teacher: PrecomputingTeacher
  let manifest: CacheManifest
  let writer: CacheWriter
  let ranks: Communicator

  /// Says what was found alike; takes the cache back where something is not. Every rank must call it.
  func run() throws -> String {
    let (largest, failure) = try compareSome()
    // What one rank finds stops all, and before that the cache must be gone.
    let found = try ranks.allGather([UInt8](failure.utf8)).first { !$0.isEmpty }
    if let found {
      try writer.retract()
      throw SpotCheckFailed(folder: writer.folder, reason: String(decoding: found, as: UTF8.self))
    }
    let worst = try ranks.allReduce(largest, .maximum)
    return "\(2 * Self.count * ranks.size) embeddings computed again differ by at most "
      + Figures.significant(worst, 2)
  }

  /// The largest difference, and what is wrong; empty where nothing is. Every rank must call it.
  private func compareSome() throws -> (largest: Double, failure: String) {
    let cache = try TeacherCache(
      writer.folder, wanted: manifest.description, check: .sizes, communicator: ranks)
    do { return (try compareSome(of: cache), "") } catch { return (0, "\(error)") }
  }

  private func compareSome(of cache: TeacherCache) throws -> Double {
    var random = KeyedRandom(seed: manifest.description.seed, purpose: "spot check", UInt64(ranks.rank))
    var largest = 0.0
    let count = dataset.count == 0 ? 0 : Self.count
    let crops = (0..<count).map { _ in
      Crop(sample: random.below(dataset.count), view: random.below(manifest.description.views))
    }
    let loader = teacher.loader(dataset, blocks: count, height: 1, workers: 1, crops: { [crops[$0]] })
    let row = Tensor<Float>(Shape(1, cache.width))
    for crop in crops {
      guard let block = try loader.next() else { preconditionFailure("a block was planned for each call") }
      let name = "the image “\(dataset.key(crop.sample))” of \(dataset.name), view \(crop.view)"
      try cache.readImage(sample: crop.sample, view: crop.view, into: row)
      largest = max(largest, try compare(row, teacher.embed(block.images(1)) { _ in name }, name))
      loader.recycle(block)
    }
    let captions = dataset.index.totals.captions
    for _ in 0..<(captions == 0 ? 0 : Self.count) {
      let caption = random.below(captions)
      let name = "the caption “\(dataset.caption(caption))” of \(dataset.name)"
      try cache.readText(caption: caption, into: row)
      largest = max(largest, try compare(row, teacher.embed([dataset.caption(caption)]) { _ in name }, name))
    }
    return largest
  }

  private struct Differs: Error, CustomStringConvertible {
    let item: String
    let difference: Double

    var description: String {
      "the stored embedding of \(item) differs by \(Figures.significant(difference, 3)) from what the "
        + "teacher computes now"
    }
  }

  /// The largest difference of two unit rows; refused where it is more than rounding.
  private func compare(_ stored: Tensor<Float>, _ computed: Tensor<Float>, _ name: String) throws -> Double {
    let difference = zip(stored.array, computed.array).map { abs(Double($0) - Double($1)) }.max() ?? 0
    // Numbers of unit rows are at most 1: half a unit in the last place of the stored form, and matrix products'.
    let tolerance =
      switch manifest.type {
      case .fp32: 1e-4
      case .fp16: 1e-3
      case .bf16: 5e-3
      }
    guard difference <= tolerance else { throw Differs(item: name, difference: difference) }
    return difference
  }
}

/// A cache that does not hold what its teacher computes.
struct SpotCheckFailed: ExitCoded, CustomStringConvertible {
  let folder: String
  let reason: String

  var status: ExitStatus { .badData }
  var description: String {
    "teacher cache \(folder): \(reason): weights, dataset or cache have changed meanwhile. The cache was taken back; "
      + "run kinship precompute again, and it computes every part anew"
  }
}
