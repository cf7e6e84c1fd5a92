import Dist
import Foundation
import Model
import Synchronization

/// Makes a corpus of a source: reads and checks pictures in threads, writes samples in the source's order.
struct CorpusImporter {
  var name: String
  var folder: String
  var limits = CorpusWriter.Limits()
  var maxPixels = ImageDecoder.defaultMaxPixels
  var workers = 1
  var overwrite = false

  /// What came of it.
  struct Outcome {
    var index: CorpusIndex
    /// How many different labels the pictures have.
    var classes: Int
    var rejections: RejectionList
    var seconds: Double

    /// For the console: what the corpus holds, what was left out and why.
    func summary(_ name: String) -> String {
      let totals = index.totals
      let labels = classes == 0 ? "" : ", \(classes) \(classes == 1 ? "class" : "classes")"
      let rate = Double(totals.samples + rejections.count) / max(seconds, 1e-9)
      var lines = [
        "\(name): \(totals.samples) pictures, \(totals.captions) captions\(labels) in \(index.shards.count) "
          + "shard\(index.shards.count == 1 ? "" : "s"), "
          + "\(Figures.bytes(totals.fileBytes)) (\(Figures.fixed(seconds, 1)) s, \(Int(rate)) pictures/s)"
      ]
      guard rejections.count > 0 else { return lines[0] }
      lines.append("left out: \(rejections.count), listed in \(RejectionList.fileName)")
      lines += rejections.first.map { "  \($0.place): \($0.reason)" }
      if rejections.count > rejections.first.count { lines.append("  …") }
      return lines.joined(separator: "\n")
    }
  }

  /// Entries that one thread after another takes from, and what became of them.
  private final class Batch: Sendable {
    static let size = 32
    let results = Mutex<[Result<CorpusSample, Rejection>?]>(Array(repeating: nil, count: size))
  }

  func run(_ source: some ImportSource) throws -> Outcome {
    try ImportFolder.prepare(folder, overwrite: overwrite)
    var writer = try CorpusWriter(
      name: name, folder: folder, labeled: source.labeled, labels: source.labels, limits: limits)
    var rejections = RejectionList(folder: folder)
    var labels: Set<Int> = []
    var progress = ImportProgress(total: source.count)
    let batches = try prepared(source)
    while let batch = try batches.next() {
      let results = batch.results.withLock { results in
        defer { results = Array(repeating: nil, count: Batch.size) }
        return results
      }
      batches.recycle(batch)
      for case let result? in results {
        switch result {
        case .success(let sample):
          try writer.append(sample)
          if let label = sample.label { labels.insert(label) }
          progress.note(bytes: sample.image.count, rejected: rejections.count)
        case .failure(let rejection):
          try rejections.add(rejection)
          progress.note(bytes: 0, rejected: rejections.count)
        }
      }
    }
    try rejections.sync()
    guard writer.count > 0 else {
      let reason = rejections.first.first.map { "; the first: \($0.place): \($0.reason)" } ?? ""
      throw ImportError(folder, "none of \(source.count) pictures could be imported\(reason)\(source.advice)")
    }
    let index = try writer.finish()
    return Outcome(index: index, classes: labels.count, rejections: rejections, seconds: progress.seconds)
  }

  /// The source's entries in order, each read and checked.
  private func prepared(_ source: some ImportSource) throws -> Prefetcher<ImportEntry, Batch> {
    let reader = Mutex<any ImportReader>(try source.entries())
    let maxPixels = maxPixels
    return Prefetcher(
      steps: 0..<(source.count + Batch.size - 1) / Batch.size, batches: (0..<3).map { _ in Batch() },
      workers: workers,
      plan: { _ in
        try reader.withLock { reader in
          var entries: [ImportEntry] = []
          while entries.count < Batch.size, let entry = try reader.next() { entries.append(entry) }
          return entries
        }
      },
      worker: {
        var check = PictureCheck(maxPixels: maxPixels)
        return { batch, index, entry in
          let result = check.sample(entry)
          batch.results.withLock { $0[index] = result }
        }
      })
  }
}
