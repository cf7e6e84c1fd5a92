import Dist
import Model
import Synchronization

/// Makes a dataset from a source: threads read and check images, and samples are written in the source's order.
struct DatasetImporter {
  /// The names of the dataset, of its folder and, for messages, of the source.
  let name, folder, origin: String
  let limits: DatasetWriter.Limits
  let maxPixels, workers: Int
  let overwrite: Bool
  /// Says which samples are kept; nil if all are.
  var filter: SampleFilter?

  struct Outcome {
    let index: DatasetIndex
    /// The different labels, and the number of images that have one.
    let labels: Set<Int>
    let labeled: Int
    let rejections: RejectionList
    /// The numbers of samples that the conditions kept and left out, in words; nil without conditions.
    let filtered: String?
    let seconds: Double

    func summary(_ name: String) -> String {
      let totals = index.totals
      let classes = labels.isEmpty ? "" : ", \(Figures.count(labels.count, "class", "classes"))"
      // In less than a second, most of the time goes to what does not depend on the images.
      let rate =
        seconds < 1 ? "" : ", \(Figures.rates(images: totals.samples, bytes: totals.imageBytes, seconds: seconds))"
      var lines = [
        "\(name): \(Figures.count(totals.samples, "image")), \(Figures.count(totals.captions, "caption"))\(classes) in "
          + "\(Figures.count(index.shards.count, "shard")), "
          + "\(Figures.bytes(totals.fileBytes)) (\(Figures.fixed(seconds, 1)) s\(rate))"
      ]
      if let least = labels.min(), let most = labels.max() {
        // The names' numbers are their positions; only the first and the last are shown.
        let ends = index.labels.enumerated().filter { [0, index.labels.count - 1].contains($0.offset) }
        let names = ends.map { "\($0.offset) is \($0.element)" }.joined(separator: ", ")
        let numbers = least == most ? "the whole number \(least)" : "whole numbers from \(least) to \(most)"
        let kind = names.isEmpty ? numbers : "names in the order of their bytes: \(names)"
        let without = totals.samples - labeled
        lines.append("labels: \(kind)\(without == 0 ? "" : "; \(Figures.count(without, "image")) without a label")")
      } else if index.labeled {
        lines.append("labels: none")
      }
      if let filtered { lines.append(filtered) }
      if rejections.count > 0 {
        lines.append("left out: \(rejections.count), listed in \(RejectionList.fileName)")
        lines += rejections.first.map { "  \($0.place): \($0.reason)" }
        if rejections.count > rejections.first.count { lines.append("  …") }
      }
      return lines.joined(separator: "\n")
    }
  }

  private final class Batch: Sendable {
    static let size = 32
    let results = Mutex<[Result<DatasetSample, Rejection>?]>(Array(repeating: nil, count: size))
  }

  /// Imports the source. If that fails, a dataset that the folder held stays as it was, and nothing of the new one
  /// remains.
  func run(_ source: some ImportSource) throws -> Outcome {
    try checkFolder()
    do { return try write(source) } catch {
      try? DatasetWriter.removeLeftovers(in: folder)
      RejectionList.removeDraft(in: folder)
      throw error
    }
  }

  private func write(_ source: some ImportSource) throws -> Outcome {
    var writer = try DatasetWriter(
      name: name, folder: folder, labeled: source.labeled, labels: source.labels, limits: limits, replacing: overwrite)
    var rejections = RejectionList(folder: folder)
    var labels: Set<Int> = []
    var labeled = 0
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
          if let label = sample.label {
            labels.insert(label)
            labeled += 1
          }
          progress.note(bytes: sample.image.count, rejected: rejections.count, filtered: filter?.dropped ?? 0)
        case .failure(let rejection):
          try rejections.add(rejection)
          progress.note(bytes: 0, rejected: rejections.count, filtered: filter?.dropped ?? 0)
        }
      }
    }
    if let error = filter?.missingColumn(origin) { throw error }
    guard writer.count > 0 else {
      let isOne = source.count == 1
      let what = (isOne ? "the one image could not" : "none of \(source.count) images could") + " be imported"
      let reason = rejections.first.first.map { "\(isOne ? "" : "; the first"): \($0.place): \($0.reason)" } ?? ""
      let kept = filter.map { "; \($0.summary)" } ?? ""
      throw UserError(origin, what + reason + kept + source.advice)
    }
    let index = try writer.finish()
    try rejections.publish()
    return Outcome(
      index: index, labels: labels, labeled: labeled, rejections: rejections, filtered: filter?.summary,
      seconds: progress.pace.seconds)
  }

  /// Returns the source's entries in order, each read and checked, without the samples that are not kept: then the last
  /// batches are empty.
  private func prepared(_ source: some ImportSource) throws -> Prefetcher<ImportEntry, Batch> {
    let reader = Mutex<ImportReader>(try source.entries())
    let (maxPixels, filter) = (maxPixels, filter)
    return Prefetcher(
      steps: 0..<(source.count + Batch.size - 1) / Batch.size, batches: (0..<3).map { _ in Batch() },
      workers: workers,
      append: { _, entries in
        try reader.withLock { next in
          while entries.count < Batch.size, let entry = try next() {
            if case .item(let item) = entry, filter?.keeps(item) == false { continue }
            entries.append(entry)
          }
        }
      },
      worker: {
        var check = ImageCheck(maxPixels: maxPixels)
        return { batch, index, entry in
          let result = check.sample(entry)
          batch.results.withLock { $0[index] = result }
        }
      })
  }

  /// Makes sure that `folder` can receive a dataset: it is new or empty, or `overwrite` allows a dataset in it to be
  /// replaced. Files that no import writes are never touched.
  private func checkFolder() throws(UserError) {
    guard let isFolder = UserFiles.isFolder(folder) else { return }
    guard isFolder else { throw UserError(folder, "is a file; name a folder that is new or empty") }
    let isEmpty = try UserFiles.names(in: folder).isEmpty
    guard overwrite || isEmpty else {
      throw UserError(folder, "is not empty; name another folder, or replace the dataset in it with --overwrite")
    }
  }
}

/// Reports on standard error, every few seconds, how far an import has come.
private struct ImportProgress {
  let total: Int
  private(set) var pace = ProgressPace()
  private var bytes = 0
  /// The entries that were written or rejected.
  private var written = 0

  init(total: Int) { self.total = total }

  mutating func note(bytes: Int, rejected: Int, filtered: Int) {
    written += 1
    let done = written + filtered
    self.bytes += bytes
    guard pace.isDue() else { return }
    Job.report(
      "\(done) of \(total) images, \(rejected + filtered) left out, "
        + "\(Figures.rates(images: written - rejected, bytes: self.bytes, seconds: pace.seconds)), "
        + "\(pace.left(done: done, of: total)) left")
  }
}

extension Figures {
  /// Returns what was imported per second: `949 images/s, 61.2 MiB/s`. Both count the same images.
  fileprivate static func rates(images: Int, bytes: Int, seconds: Double) -> String {
    let rate = Double(images) / seconds
    return "\(fixed(rate, rate < 10 ? 1 : 0)) images/s, \(self.bytes(Int(Double(bytes) / seconds)))/s"
  }
}
