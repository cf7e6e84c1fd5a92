internal import Foundation
public import Tensor

/// A complete teacher cache, which any number of threads read row by row. Only its manifest is held in memory.
public final class TeacherCache: Sendable {
  public let folder: String
  public let manifest: CacheManifest
  private let files = OpenFileCache()

  /// Opens the cache. Every rank must call it. Throws a `CacheError` that names all damaged parts or all differences,
  /// or a `RankDifference` if the ranks see different caches.
  public init(_ folder: String, wanted: CacheDescription?, check: Dataset.Check, communicator: Communicator) throws {
    self.folder = folder
    let run = "run kinship precompute"
    guard let manifest = try CacheManifest.read(folder) else {
      throw CacheError(folder, ["there is no \(CacheManifest.file)"], advice: "\(run) first", status: .inputOutput)
    }
    self.manifest = manifest
    try communicator.requireSame("teacher cache \(folder)", manifest.identity, isShown: true)
    if let problems = wanted.map({ manifest.description.differences(from: $0) }), !problems.isEmpty {
      throw CacheError(folder, problems, advice: "name another folder in teacher.cache and \(run), or change the run")
    }
    guard manifest.isWhole else {
      throw CacheError(
        folder,
        ["it is incomplete: kinship precompute was stopped before it had written all \(manifest.partCount) parts"],
        advice: "\(run) again to continue")
    }
    let viewers = try communicator.sharing("\(folder)/\(CacheManifest.file)")
    // Of sizes too: a thousand ranks that each look at a thousand parts would be a million requests to one file system.
    let own = stride(from: viewers.rank, to: manifest.parts.count, by: viewers.size).compactMap { index in
      manifest.parts[index].problem(in: folder, checksum: check == .checksums)
    }
    let problems = Set(try communicator.allGather(own).joined()).sorted()
    guard problems.isEmpty else {
      throw CacheError(folder, problems, advice: "\(run) again, which keeps the undamaged parts")
    }
  }

  private init(_ manifest: CacheManifest, in folder: String) { (self.folder, self.manifest) = (folder, manifest) }

  /// The parts as files for `Staging`.
  package var source: Staging.Source {
    Staging.Source(folder, manifest.parts.map { (name: $0.file, bytes: $0.bytes, sha256: $0.sha256) })
  }

  /// Returns the same cache, which reads from copies of its parts in another folder.
  package func reading(from folder: String) -> TeacherCache { TeacherCache(manifest, in: folder) }

  /// The width d of an embedding, the larger one if those of images and captions differ.
  public var width: Int { manifest.description.teacher.width }

  /// Reads the embedding of an image's crop into `row` [d]; zeros if the cache has none of images.
  public func readImage(sample: Int, view: Int, into row: Tensor<Float>) throws {
    let about = manifest.description
    guard about.imageWidth > 0 else { return fill(row, 0) }
    let (index, crop) = place(sample, view)
    try read(part: index, offset: manifest.parts[index].imageOffset, row: crop, of: about.imageWidth, into: row)
  }

  /// Returns the box of an image's crop, [left, top, right, bottom] as fractions of its sides; nil if there are none.
  public func box(sample: Int, view: Int) throws -> [Float]? {
    let (index, crop) = place(sample, view)
    let part = manifest.parts[index]
    guard let offset = part.boxesOffset else { return nil }
    let file = try files.file(index, path: "\(folder)/\(part.file)")
    let bits = try file.read(4, of: UInt32.self, at: offset + crop * CacheDescription.boxBytes)
    return bits.map { Float(bitPattern: $0) }
  }

  /// Returns the part of a sample, and the row of one of its crops in it.
  private func place(_ sample: Int, _ view: Int) -> (part: Int, row: Int) {
    let (dataset, views) = (manifest.description.dataset, manifest.description.views)
    precondition(0..<dataset.samples ~= sample && 0..<views ~= view, "sample \(sample), view \(view)")
    let index = sample / manifest.partSamples
    return (index, (sample - manifest.parts[index].first) * views + view)
  }

  /// Reads the embedding of a caption, counted over the dataset, into `row` [d]; zeros if there are none of captions.
  public func readText(caption: Int, into row: Tensor<Float>) throws {
    let about = manifest.description
    precondition(0..<about.dataset.captions ~= caption, "caption \(caption)")
    guard about.textWidth > 0 else { return fill(row, 0) }
    let index = manifest.parts.indices.last(holding: { manifest.parts[$0].firstCaption <= caption })
    let part = manifest.parts[index]
    try read(
      part: index, offset: part.textOffset, row: caption - part.firstCaption, of: about.textWidth, into: row)
  }

  /// Reads a row of `columns` numbers. If the other modality's rows are wider, zeros fill it up; they change no cosine.
  private func read(
    part index: Int, offset: Int, row: Int, of columns: Int, into whole: Tensor<Float>
  ) throws {
    precondition(whole.count == width, "\(whole.shape) for \(width) numbers")
    let target = whole.slice(0..<columns)
    if columns < width { fill(whole, 0) }
    let file = try files.file(index, path: "\(folder)/\(manifest.parts[index].file)")
    let place = offset + row * columns * manifest.type.stored.size
    switch manifest.type {
    case .fp32:
      try unsafe target.withUnsafeMutableBuffer { (buffer) throws(FileError) in
        try unsafe file.read(into: UnsafeMutableRawBufferPointer(buffer), at: place)
      }
    case .fp16, .bf16:
      let isHalf = manifest.type == .fp16
      for (column, bits) in try file.read(columns, of: UInt16.self, at: place).enumerated() {
        target[column] = isHalf ? Float(Float16(bitPattern: bits)) : BFloat16(bitPattern: bits).float
      }
    }
  }
}

/// A teacher cache that cannot be written or used, with all problems found.
public struct CacheError: Error, ExitCoded, Hashable, CustomStringConvertible {
  public let folder: String
  /// The problems, one sentence each; never empty.
  public let problems: [String]
  public let advice: String?
  /// 65 if the stored contents are wrong, 74 if they are missing or the system reports an error.
  public let status: ExitStatus

  init(_ folder: String, _ problems: [String], advice: String? = nil, status: ExitStatus = .badData) {
    (self.folder, self.problems, self.advice, self.status) = (folder, problems, advice, status)
  }

  public var description: String {
    let list = problems.count == 1 ? " \(problems[0])" : problems.map { "\n  \($0)" }.joined()
    return "teacher cache \(folder):\(list)" + (advice.map { "; \($0)" } ?? "")
  }
}
