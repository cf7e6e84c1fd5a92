import Dist
import Foundation
import Model
import Synchronization

/// Makes a dataset from a source: threads read and check images, and samples are written in the source's order.
struct DatasetImporter {
  var name: String
  var folder: String
  var limits = DatasetWriter.Limits()
  var maxPixels = ImageDecoder.defaultMaxPixels
  var workers = 1
  var overwrite = false

  /// The result of an import.
  struct Outcome {
    var index: DatasetIndex
    /// The number of different labels.
    var classes: Int
    var rejections: RejectionList
    var seconds: Double

    /// Tells the user what the dataset holds, and what was left out and why.
    func summary(_ name: String) -> String {
      let totals = index.totals
      let labels = classes == 0 ? "" : ", \(Figures.count(classes, "class", "classes"))"
      let rate = Double(totals.samples + rejections.count) / max(seconds, 1e-9)
      var lines = [
        "\(name): \(totals.samples) images, \(totals.captions) captions\(labels) in "
          + "\(Figures.count(index.shards.count, "shard")), "
          + "\(Figures.bytes(totals.fileBytes)) (\(Figures.fixed(seconds, 1)) s, \(Int(rate)) images/s)"
      ]
      guard rejections.count > 0 else { return lines[0] }
      lines.append("left out: \(rejections.count), listed in \(RejectionList.fileName)")
      lines += rejections.first.map { "  \($0.place): \($0.reason)" }
      if rejections.count > rejections.first.count { lines.append("  …") }
      return lines.joined(separator: "\n")
    }
  }

  /// The results for entries that threads check in parallel.
  private final class Batch: Sendable {
    static let size = 32
    let results = Mutex<[Result<DatasetSample, Rejection>?]>(Array(repeating: nil, count: size))
  }

  func run(_ source: some ImportSource) throws -> Outcome {
    try prepareFolder()
    var writer = try DatasetWriter(
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
      throw UserError(folder, "none of \(source.count) images could be imported\(reason)\(source.advice)")
    }
    let index = try writer.finish()
    return Outcome(index: index, classes: labels.count, rejections: rejections, seconds: progress.seconds)
  }

  /// Returns the source's entries in order, each read and checked.
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
        var check = ImageCheck(maxPixels: maxPixels)
        return { batch, index, entry in
          let result = check.sample(entry)
          batch.results.withLock { $0[index] = result }
        }
      })
  }

  /// Makes sure that `folder` can receive a dataset: it is new or empty, or `overwrite` allows the files of an earlier
  /// dataset or import to be removed. Files that no import writes are never touched.
  private func prepareFolder() throws {
    guard let isFolder = UserFiles.isFolder(folder) else { return }
    guard isFolder else { throw UserError(folder, "is a file; name a folder that is new or empty") }
    let names = try UserFiles.names(in: folder)
    guard !names.isEmpty else { return }
    guard overwrite else {
      throw UserError(folder, "is not empty; name another folder, or replace the dataset in it with --overwrite")
    }
    // The index goes first: without it the rest cannot be taken for a dataset.
    let own = names.filter(Self.isWritten).sorted { a, _ in a == DatasetIndex.fileName }
    for name in own {
      try UserFiles.naming(folder) { try FileManager.default.removeItem(atPath: folder + "/" + name) }
    }
  }

  /// Returns whether imports write files of this name.
  private static func isWritten(_ name: String) -> Bool {
    name == DatasetIndex.fileName || name == RejectionList.fileName
      || name.wholeMatch(of: /shard-[0-9]{5,}\.h5(\.partial)?/) != nil
  }
}

/// The entries that were left out: `rejected.tsv` beside the index, with place, key and reason.
struct RejectionList {
  static let fileName = "rejected.tsv"

  /// The number of entries that were left out.
  private(set) var count = 0
  /// The first few, for the console.
  private(set) var first: [Rejection] = []
  private let path: String
  private var file: OpenFile?

  init(folder: String) { path = folder + "/" + Self.fileName }

  mutating func add(_ rejection: Rejection) throws {
    if file == nil {
      file = try OpenFile.creating(path)
      try write(["place", "key", "reason"])
    }
    try write([rejection.place, rejection.key, rejection.reason])
    count += 1
    if first.count < 5 { first.append(rejection) }
  }

  func sync() throws { try file?.sync() }

  private func write(_ fields: [String]) throws {
    let line = fields.map { String($0.map { $0.isNewline || $0 == "\t" ? " " : $0 }) }.joined(separator: "\t") + "\n"
    try file?.append([UInt8](line.utf8))
  }
}

/// Reports on standard error, every few seconds, how far an import has come.
private struct ImportProgress {
  private let total: Int
  private let start = ContinuousClock.now
  private var last = ContinuousClock.now
  private var bytes = 0
  private var done = 0

  init(total: Int) { self.total = total }

  /// The seconds since the beginning.
  var seconds: Double { (ContinuousClock.now - start) / .seconds(1) }

  mutating func note(bytes: Int, rejected: Int) {
    done += 1
    self.bytes += bytes
    guard ContinuousClock.now - last >= .seconds(5) else { return }
    last = ContinuousClock.now
    let rate = Double(done) / seconds
    let left = Double(total - done) / rate
    let line =
      "\(done) of \(total) images, \(rejected) left out, \(Int(rate)) images/s, "
      + "\(Figures.bytes(Int(Double(bytes) / seconds)))/s, \(Figures.duration(left)) left\n"
    FileHandle.standardError.write(Data(line.utf8))
  }
}
