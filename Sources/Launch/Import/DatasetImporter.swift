import Dist
import Foundation
import Model
import Synchronization

/// Makes a dataset from a source: threads read and check images, and samples are written in the source's order.
struct DatasetImporter {
  let name, folder: String
  let limits: DatasetWriter.Limits
  let maxPixels, workers: Int
  let overwrite: Bool

  struct Outcome {
    let index: DatasetIndex
    let classes: Int
    let rejections: RejectionList
    let seconds: Double

    func summary(_ name: String) -> String {
      let totals = index.totals
      let labels = classes == 0 ? "" : ", \(Figures.count(classes, "class", "classes"))"
      let rate = Double(totals.samples + rejections.count) / max(seconds, 1e-9)
      let line =
        "\(name): \(totals.samples) images, \(totals.captions) captions\(labels) in "
        + "\(Figures.count(index.shards.count, "shard")), "
        + "\(Figures.bytes(totals.fileBytes)) (\(Figures.fixed(seconds, 1)) s, \(Int(rate)) images/s)"
      guard rejections.count > 0 else { return line }
      let left = "left out: \(rejections.count), listed in \(RejectionList.fileName)"
      let more = rejections.count > rejections.first.count ? ["  …"] : []
      return ([line, left] + rejections.first.map { "  \($0.place): \($0.reason)" } + more).joined(separator: "\n")
    }
  }

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
    let reader = Mutex<ImportReader>(try source.entries())
    let maxPixels = maxPixels
    return Prefetcher(
      steps: 0..<(source.count + Batch.size - 1) / Batch.size, batches: (0..<3).map { _ in Batch() },
      workers: workers,
      append: { _, entries in
        try reader.withLock { next in
          while entries.count < Batch.size, let entry = try next() { entries.append(entry) }
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
    guard overwrite || names.isEmpty else {
      throw UserError(folder, "is not empty; name another folder, or replace the dataset in it with --overwrite")
    }
    // The index goes first: without it the rest cannot be taken for a dataset.
    for name in names.filter(Self.isWritten).sorted(by: { a, _ in a == DatasetIndex.fileName }) {
      try UserFiles.naming(folder) { try FileManager.default.removeItem(atPath: folder + "/" + name) }
    }
  }

  private static func isWritten(_ name: String) -> Bool {
    name == DatasetIndex.fileName || name == RejectionList.fileName
      || name.wholeMatch(of: /shard-[0-9]{5,}\.h5(\.partial)?/) != nil
  }
}

/// The entries that were left out: `rejected.tsv` beside the index, with place, key and reason.
struct RejectionList {
  static let fileName = "rejected.tsv"
  private(set) var count = 0
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
  let total: Int
  private let start = ContinuousClock.now
  private var last = ContinuousClock.now
  private var bytes = 0
  private var done = 0

  init(total: Int) { self.total = total }
  var seconds: Double { (ContinuousClock.now - start) / .seconds(1) }

  mutating func note(bytes: Int, rejected: Int) {
    done += 1
    self.bytes += bytes
    guard ContinuousClock.now - last >= .seconds(5) else { return }
    last = ContinuousClock.now
    let rate = Double(done) / seconds
    let line =
      "\(done) of \(total) images, \(rejected) left out, \(Int(rate)) images/s, "
      + "\(Figures.bytes(Int(Double(self.bytes) / seconds)))/s, \(Figures.duration(Double(total - done) / rate)) left\n"
    FileHandle.standardError.write(Data(line.utf8))
  }
}

/// Reads and decodes images to check them. Each thread has its own, which reuses its memory.
struct ImageCheck {
  /// The largest file in bytes that is read; a valid image of the largest size allowed is far smaller.
  static let mostBytes = 256 << 20
  private var decoder: ImageDecoder
  private var image = RGBImage()
  /// The tar of the last image, which is likely to hold the next one too.
  private var tar: OpenFile?

  init(maxPixels: Int) { decoder = ImageDecoder(maxPixels: maxPixels) }

  mutating func sample(_ entry: ImportEntry) -> Result<DatasetSample, Rejection> {
    switch entry {
    case .rejected(let rejection): return .failure(rejection)
    case .item(let item):
      do throws(ImportReason) {
        let bytes = try checkedBytes(of: item)
        return .success(DatasetSample(image: bytes, captions: item.captions, key: item.key, label: item.label))
      } catch { return .failure(Rejection(place: item.place, key: item.key, reason: error.words)) }
    }
  }

  private mutating func checkedBytes(of item: ImportItem) throws(ImportReason) -> [UInt8] {
    let bytes: [UInt8]
    do throws(ImportReason) { bytes = try read(item) } catch { throw ImportReason("\(item.path) \(error.words)") }
    do throws(ImageError) { try decoder.decode(bytes, into: &image) } catch {
      guard case .tooManyPixels(let format, let width, let height, let limit) = error else {
        throw ImportReason("\(error)")
      }
      throw ImportReason("\(format.title) image of \(width) × \(height) pixels, more than --max-pixels \(limit)")
    }
    return bytes
  }

  private mutating func read(_ item: ImportItem) throws(ImportReason) -> [UInt8] {
    guard let bytes = item.bytes else { return try UserFiles.read(item.path, limit: Self.mostBytes) }
    do throws(FileError) {
      let file = if let tar, tar.path == item.path { tar } else { try OpenFile.reading(item.path) }
      tar = file
      return try file.read(bytes.count, of: UInt8.self, at: bytes.lowerBound)
    } catch { throw ImportReason("cannot be read: \(error.reason)") }
  }
}
