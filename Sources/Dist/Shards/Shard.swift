/// One shard, opened to read. Captions and keys are in memory; pictures are read at need, past the HDF5 library.
struct Shard: Sendable {
  let path: String
  let entry: CorpusIndex.Shard
  /// The SHA-256 of the contents that the shard itself claims.
  let digest: String
  /// Where the contents lie in the file, in the order in which they are hashed.
  private let extents: [Range<Int>]
  private let imageOffsets: [UInt64]
  private let captions: PackedStrings
  private let captionFirst: [UInt32]
  private let keys: PackedStrings
  private let labels: [Int32]?

  /// Opens the shard at `path`, which must hold what the index's `entry` says and be consistent in itself.
  init(path: String, entry: CorpusIndex.Shard, corpus: String, labeled: Bool) throws(CorpusError) {
    do { self = try Shard(opening: path, entry: entry, corpus: corpus, labeled: labeled) } catch {
      switch error {
      case let error as CorpusError: throw error
      case let error as HDF5Error:
        if error.isLocked { throw CorpusError(path, "\(error)", exitCode: error.exitCode) }
        throw CorpusError(path, "cannot be read (truncated or altered?): \(error.object ?? error.call): \(error.cause)")
      default: throw CorpusError(path, "cannot be read: \(error)")
      }
    }
  }

  private init(opening path: String, entry: CorpusIndex.Shard, corpus: String, labeled: Bool) throws {
    let file = try HDF5File.open(path)
    defer { try? file.close() }
    func require(_ fact: Bool, _ reason: @autoclosure () -> String) throws(CorpusError) {
      guard fact else { throw CorpusError(path, reason()) }
    }
    let schema = try file.attributes.string(ShardLayout.Attribute.schema)
    try require(schema == ShardLayout.schema, "its schema is \(schema), expected \(ShardLayout.schema)")
    let owner = try file.attributes.string(ShardLayout.Attribute.corpus)
    try require(owner == corpus, "belongs to the corpus \"\(owner)\", not to \"\(corpus)\"")

    var extents: [Range<Int>] = []
    func find(_ name: String, count: Int? = nil) throws -> HDF5Dataset {
      let dataset = try file.dataset(name)
      try require(dataset.shape.count == 1, "\(name) has the shape \(dataset.shape), expected one dimension")
      try require(
        count == nil || dataset.count == count, "\(name) has \(dataset.count) entries, expected \(count ?? 0)")
      if let start = dataset.fileOffset { extents.append(start..<start + dataset.count * dataset.type.size) }
      return dataset
    }
    let images = try find(ShardLayout.imageBytes, count: entry.imageBytes)
    try require(images.type == .uint8, "\(ShardLayout.imageBytes) holds \(images.type.rawValue), expected u8")
    try require(
      images.fileOffset == entry.imageOffset,
      "its pictures begin at \(images.fileOffset ?? 0), not where the index says")
    imageOffsets = try find(ShardLayout.imageOffsets, count: entry.samples + 1).read(UInt64.self)
    try require(imageOffsets.rises(to: images.count), "\(ShardLayout.imageOffsets) do not rise to \(images.count)")

    func strings(_ bytes: String, _ offsets: String, count: Int) throws -> PackedStrings {
      let text = try find(bytes).read(UInt8.self)
      let packed = PackedStrings(bytes: text, offsets: try find(offsets, count: count + 1).read(UInt64.self))
      guard let packed else { throw CorpusError(path, "\(offsets) do not rise to \(text.count)") }
      return packed
    }
    captions = try strings(ShardLayout.captionBytes, ShardLayout.captionOffsets, count: entry.captions)
    let first = try find(ShardLayout.captionFirst, count: entry.samples + 1).read(UInt64.self)
    try require(first.rises(to: entry.captions), "\(ShardLayout.captionFirst) does not rise to \(entry.captions)")
    captionFirst = first.map(UInt32.init)
    keys = try strings(ShardLayout.keyBytes, ShardLayout.keyOffsets, count: entry.samples)
    labels = labeled ? try find(ShardLayout.labels, count: entry.samples).read(Int32.self) : nil

    digest = try file.attributes.string(ShardLayout.Attribute.sha256)
    self.path = path
    self.entry = entry
    self.extents = extents
  }

  /// Where picture `index` lies in the file.
  func imageExtent(_ index: Int) -> Range<Int> {
    entry.imageOffset + Int(imageOffsets[index])..<entry.imageOffset + Int(imageOffsets[index + 1])
  }

  func captions(_ index: Int) -> [String] { captionRange(index).map { captions[$0] } }
  /// The number of a sample's first caption within the shard.
  func firstCaption(_ index: Int) -> Int { Int(captionFirst[index]) }
  func captionCount(_ index: Int) -> Int { captionRange(index).count }
  func caption(_ index: Int, _ choice: Int) -> String { captions[captionRange(index).lowerBound + choice] }
  func key(_ index: Int) -> String { keys[index] }
  func keyBytes(_ index: Int) -> ArraySlice<UInt8> { keys.bytes(index) }

  func label(_ index: Int) -> Int? {
    guard let label = labels?[index], label >= 0 else { return nil }
    return Int(label)
  }

  /// SHA-256 over the data sets' contents as they are in the file now.
  func contentDigest() throws(FileError) -> String {
    let file = try OpenFile.reading(path)
    var hasher = SHA256()
    for extent in extents { try file.hash(extent, into: &hasher) }
    return hasher.finalize().hexadecimal
  }

  private func captionRange(_ index: Int) -> Range<Int> { Int(captionFirst[index])..<Int(captionFirst[index + 1]) }
}
