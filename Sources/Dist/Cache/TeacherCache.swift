internal import Foundation
public import Tensor

/// A teacher cache that was found whole, read by single rows: nothing of it is held in memory but the manifest.
///
/// All methods may be called from any number of threads.
public final class TeacherCache: Sendable {
  public let folder: String
  public let manifest: CacheManifest
  private let files = ShardFiles()

  /// Opens the cache in `folder`. Every rank must call it; with `checksums` each reads its share of the parts.
  ///
  /// - Parameter wanted: what the embeddings must be of; nil for whatever they are.
  /// - Throws: `CacheError` that names every part that is missing or damaged, or says how cache and run differ.
  public init(
    _ folder: String, wanted: CacheDescription?, check: Corpus.Check, communicator: Communicator
  ) throws {
    self.folder = folder
    let run = "run kinship precompute"
    guard let manifest = try CacheManifest.read(folder) else {
      throw CacheError(folder, ["there is no \(CacheManifest.file)"], advice: "\(run) first", exitCode: 74)
    }
    self.manifest = manifest
    if let problems = wanted.map({ manifest.description.differences(from: $0) }), !problems.isEmpty {
      throw CacheError(folder, problems, advice: "name another folder in teacher.cache and \(run), or change the run")
    }
    guard manifest.isWhole else {
      throw CacheError(
        folder,
        ["it is not complete: kinship precompute was stopped before all \(manifest.partCount) parts were there"],
        advice: "\(run) again, and it goes on")
    }
    var own: [String] = []
    for index in manifest.parts.indices {
      let isMine = index % communicator.size == communicator.rank
      if check == .sizes || isMine {
        let problem = manifest.parts[index].problem(in: folder, checksum: check == .checksums)
        if let problem { own.append(problem) }
      }
    }
    var problems: [String] = []
    for problem in try communicator.all(own) where !problems.contains(problem) { problems.append(problem) }
    guard problems.isEmpty else {
      throw CacheError(folder, problems.sorted(), advice: "\(run) again: it keeps the parts that are whole")
    }
  }

  /// d, the numbers of an embedding.
  public var width: Int { manifest.description.teacher.width }

  /// Reads the embedding of a picture's crop into `row`, d numbers.
  public func readImage(sample: Int, view: Int, into row: Tensor<Float>) throws {
    let (corpus, views) = (manifest.description.corpus, manifest.description.views)
    precondition(0..<corpus.samples ~= sample && 0..<views ~= view, "sample \(sample), view \(view)")
    let index = sample / manifest.partSamples
    let part = manifest.parts[index]
    try read(index, part.imageOffset, row: (sample - part.first) * views + view, into: row)
  }

  /// Reads the embedding of a caption, counted over the corpus, into `row`, d numbers.
  public func readText(caption: Int, into row: Tensor<Float>) throws {
    precondition(0..<manifest.description.corpus.captions ~= caption, "caption \(caption)")
    var (low, high) = (0, manifest.parts.count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if manifest.parts[middle].firstCaption <= caption { low = middle } else { high = middle }
    }
    let part = manifest.parts[low]
    try read(low, part.textOffset, row: caption - part.firstCaption, into: row)
  }

  private func read(_ index: Int, _ offset: Int, row: Int, into target: Tensor<Float>) throws {
    precondition(target.count == width, "\(target.shape) for \(width) numbers")
    let file = try files.file(index, path: "\(folder)/\(manifest.parts[index].file)")
    let place = offset + row * width * manifest.type.stored.size
    switch manifest.type {
    case .fp32:
      try unsafe target.withUnsafeMutableBuffer { (buffer) throws(FileError) in
        try unsafe file.read(into: UnsafeMutableRawBufferPointer(buffer), at: place)
      }
    case .fp16:
      let bits = try file.read(width, of: UInt16.self, at: place)
      for (column, bits) in bits.enumerated() { target[column] = Float(Float16(bitPattern: bits)) }
    case .bf16:
      let bits = try file.read(width, of: UInt16.self, at: place)
      for (column, bits) in bits.enumerated() { target[column] = BFloat16(bitPattern: bits).float }
    }
  }
}
