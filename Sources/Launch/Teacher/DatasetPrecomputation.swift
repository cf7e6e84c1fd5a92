import Dist
import Foundation
import Model
import Tensor

/// Embeds one dataset into its folder of a cache, on all ranks. The bits of a row depend on the height of the matrix
/// product that computes it: so each part is encoded in blocks of fixed samples and captions, and whole parts are dealt
/// to the ranks.
struct DatasetPrecomputation {
  /// The number of captions that are encoded together, and the most crops unless one image has more.
  static let height = 64
  let dataset: Dataset
  let teacher: TeacherEncoder
  let folder: String
  let manifest: CacheManifest
  let loaders: Int
  let ranks: Communicator
  let log: (String) -> Void

  func run() throws {
    let start = ContinuousClock.now
    let writer = try CacheWriter(folder, manifest, communicator: ranks)
    let found = try writer.soundParts()
    let missing = (0..<manifest.partCount).filter { found[$0] == nil }
    let texts = Figures.count(dataset.index.totals.captions, "caption")
    let parts = "\(Figures.count(manifest.partCount, "part")), \(found.count) of them there already"
    log(
      "\(dataset.name)  \(Figures.count(dataset.count, "image")) in \(Figures.count(views, "view")), \(texts), to "
        + "\(folder): \(parts)")
    if let other = writer.otherArithmetic { log("\(dataset.name)  was computed with \(other)") }
    if ranks.rank == 0 {
      let bytes = missing.map { writer.bytes(ofPart: $0, captions: captions(ofPart: $0).count) }
      try writer.requireSpace(bytes.checkedSum ?? .max)
    }
    let written = try write(missing, with: writer)
    _ = try writer.finish(written, beside: found)
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    let done = missing.reduce(0) { $0 + manifest.samples(ofPart: $1).count } * views
    if done > 0 {
      let (time, speed) = (Figures.duration(seconds), Figures.significant(Double(done) / seconds, 3))
      log("\(dataset.name)  \(done) crops and their captions in \(time): \(speed) crops a second")
    }
    log("\(dataset.name)  complete; \(try spotCheck(writer))")
  }

  var views: Int { manifest.description.views }

  private func captions(ofPart index: Int) -> Range<Int> { dataset.captions(of: manifest.samples(ofPart: index)) }

  /// Returns a part's samples in the blocks in which their crops are encoded, all crops of an image together.
  private func blocks(ofPart index: Int) -> [Range<Int>] {
    Self.blocks(manifest.samples(ofPart: index), of: max(Self.height / views, 1))
  }

  private func captionBlocks(ofPart index: Int) -> [Range<Int>] {
    Self.blocks(captions(ofPart: index), of: Self.height)
  }

  static func blocks(_ range: Range<Int>, of height: Int) -> [Range<Int>] {
    stride(from: range.lowerBound, to: range.upperBound, by: height).map { $0..<min($0 + height, range.upperBound) }
  }

  /// Computes and writes this rank's share of the missing parts. Returns their records.
  private func write(_ missing: [Int], with writer: CacheWriter) throws -> [CacheManifest.Part] {
    let shares = (0..<ranks.size).map { stride(from: $0, to: missing.count, by: ranks.size).map { missing[$0] } }
    let own = shares[ranks.rank]
    // The ranks begin every block together: none waits for another until the end, and all stop at the same one.
    let turns = shares.map { parts in
      parts.reduce(0) { count, part in count + blocks(ofPart: part).count + captionBlocks(ofPart: part).count }
    }
    var turn = 0
    func begin() throws {
      turn += 1
      try StopRequest.check(over: ranks)
    }
    let planned = own.flatMap { blocks(ofPart: $0) }
    let loader = teacher.loader(
      dataset, blocks: planned.count, height: max(Self.height / views, 1) * views, workers: loaders,
      crops: { [views] index in
        planned[index].flatMap { sample in (0..<views).map { TeacherEncoder.Crop(sample: sample, view: $0) } }
      })
    var progress = PrecomputeProgress(
      dataset: dataset.name, own: planned.reduce(0) { $0 + $1.count } * views,
      all: missing.reduce(0) { $0 + manifest.samples(ofPart: $1).count } * views, log: log)
    let written: [CacheManifest.Part] = try own.map { index in
      let part = try writer.part(index, captions: captions(ofPart: index))
      do {
        for samples in blocks(ofPart: index) {
          try begin()
          guard let block = try loader.next() else { preconditionFailure("a block was planned for each call") }
          defer { loader.recycle(block) }
          let rows = try teacher.embed(block.images.samples(0..<samples.count * views)) {
            "the image “\(dataset.key(samples.lowerBound + $0 / views))” of \(dataset.name)"
          }
          try part.write(images: rows, of: samples)
          progress.add(rows.rows)
        }
        for captions in captionBlocks(ofPart: index) {
          try begin()
          let texts = captions.map { dataset.caption($0) }
          try part.write(texts: teacher.embed(texts) { "the caption “\(texts[$0])” of \(dataset.name)" }, of: captions)
        }
        return try part.finish()
      } catch {
        part.abandon()
        throw error
      }
    }
    while turn < turns.max() ?? 0 { try begin() }
    return written
  }
}

extension Dataset {
  /// Returns the numbers of the captions of consecutive samples.
  func captions(of samples: Range<Int>) -> Range<Int> {
    firstCaption(samples.lowerBound)..<firstCaption(samples.upperBound)
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
  var pace = ProgressPace(every: 10)

  mutating func add(_ count: Int) {
    done += count
    guard pace.isDue() else { return }
    let share = Double(done) / Double(own)
    let (speed, left) = (share * Double(all) / pace.seconds, pace.left(done: done, of: own))
    log("\(dataset)  \(Int(share * 100)) %  \(Figures.significant(speed, 3)) crops a second  \(left) left")
  }
}
