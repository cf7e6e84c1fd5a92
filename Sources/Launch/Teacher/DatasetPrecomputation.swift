import Dist
import Foundation
import Tensor

/// One dataset, embedded into its folder of the cache by all ranks.
///
/// The same row gives other bits in a matrix product of another height. So each part is encoded in blocks of fixed
/// samples and captions, and whole parts are dealt to the ranks.
struct DatasetPrecomputation {
  /// Captions that are encoded together, and crops nearly.
  static let height = 64

  let dataset: Dataset
  let teacher: PrecomputingTeacher
  let folder: String
  let manifest: CacheManifest
  let loaders: Int
  let ranks: Communicator
  let log: (String) -> Void

  /// Every rank must call it.
  func run() throws {
    let start = ContinuousClock.now
    let writer = try CacheWriter(folder, manifest, communicator: ranks)
    for note in writer.notes { log("warning: \(note)") }
    let sound = try writer.soundParts()
    let lacking = (0..<manifest.partCount).filter { sound[$0] == nil }
    log(
      "\(dataset.name)  \(dataset.count) images in \(views) \(views == 1 ? "view" : "views"), "
        + "\(dataset.index.totals.captions) captions, to \(folder): \(manifest.partCount) parts, "
        + "\(sound.count) of them there already")
    if ranks.rank == 0 {
      try writer.requireSpace(
        lacking.reduce(0) { $0 + writer.bytes(ofPart: $1, captions: captions(ofPart: $1).count) })
    }
    let own = stride(from: ranks.rank, to: lacking.count, by: ranks.size).map { lacking[$0] }
    let written = try write(own, with: writer, all: lacking)
    let whole = try writer.finish(Array(sound.values) + written)
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    let done = lacking.reduce(0) { $0 + manifest.samples(ofPart: $1).count } * views
    if done > 0 {
      log(
        "\(dataset.name)  \(done) crops and their captions in \(Figures.duration(seconds)): "
          + "\(Figures.significant(Double(done) / seconds, 3)) crops a second")
    }
    let checked = try SpotCheck(dataset: dataset, teacher: teacher, manifest: whole, writer: writer, ranks: ranks).run()
    log("\(dataset.name)  whole; \(checked)")
  }

  private var views: Int { manifest.description.views }

  private func captions(ofPart index: Int) -> Range<Int> {
    let samples = manifest.samples(ofPart: index)
    return dataset.firstCaption(samples.lowerBound)..<dataset.firstCaption(samples.upperBound)
  }

  /// The samples of a part, in the blocks in which their crops are encoded: all crops of an image are in one.
  private func blocks(ofPart index: Int) -> [Range<Int>] {
    Self.blocks(manifest.samples(ofPart: index), of: max(Self.height / views, 1))
  }

  private static func blocks(_ range: Range<Int>, of height: Int) -> [Range<Int>] {
    stride(from: range.lowerBound, to: range.upperBound, by: height).map { $0..<min($0 + height, range.upperBound) }
  }

  /// Writes this rank's parts.
  private func write(_ own: [Int], with writer: CacheWriter, all: [Int]) throws -> [CacheManifest.Part] {
    let planned = own.flatMap { blocks(ofPart: $0) }
    let loader = teacher.loader(
      dataset, blocks: planned.count, height: max(Self.height / views, 1) * views, workers: loaders,
      crops: { [views] index in
        planned[index].flatMap { sample in (0..<views).map { Crop(sample: sample, view: $0) } }
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

/// Says from time to time how far the ranks are, as the first one's share tells.
struct PrecomputeProgress {
  let dataset: String
  /// Crops of this rank, and of all.
  let own: Int
  let all: Int
  let log: (String) -> Void
  private var done = 0
  private let start = ContinuousClock.now
  private var next = 10.0

  init(dataset: String, own: Int, all: Int, log: @escaping (String) -> Void) {
    self.dataset = dataset
    self.own = own
    self.all = all
    self.log = log
  }

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
