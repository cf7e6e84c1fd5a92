/// The names in a dataset shard, in the order in which its contents are hashed. The bytes of sample i lie at
/// `offsets[i]` ..< `offsets[i + 1]`; its captions have the numbers `first[i]` ..< `first[i + 1]`.
enum ShardLayout {
  static let schema = "kinship/corpus-shard/1"
  static let imageBytes = "images/bytes"
  static let imageOffsets = "images/offsets"
  static let captionBytes = "captions/bytes"
  static let captionOffsets = "captions/offsets"
  static let captionFirst = "captions/first"
  static let keyBytes = "keys/bytes"
  static let keyOffsets = "keys/offsets"
  /// The labels, absent from a dataset without labels; −1 for a sample without one.
  static let labels = "labels"
}

/// A shard that is open for reading. Captions and keys are in memory; images are read on demand, past the HDF5 library.
struct Shard: Sendable {
  private(set) var path: String
  let entry: DatasetIndex.Shard
  /// The SHA-256 of the contents as the shard itself records it.
  let digest: String
  /// The ranges of the contents in the file, in the order in which they are hashed.
  private let extents: [Range<Int>]
  private let imageOffsets: [UInt64]
  private let captions: PackedStrings
  private let captionFirst: [UInt32]
  private let keys: PackedStrings
  private let labels: [Int32]?

  /// Opens the shard at `path`. Throws unless it agrees with the index's `entry` and is consistent.
  init(path: String, entry: DatasetIndex.Shard, dataset: String, labeled: Bool) throws(DatasetError) {
    do { self = try Shard(opening: path, entry: entry, dataset: dataset, labeled: labeled) } catch {
      switch error {
      case let error as DatasetError: throw error
      case let error as HDF5Error:
        if error.isLocked { throw DatasetError(path, "\(error)", status: error.status) }
        throw DatasetError(
          path, "cannot be read (truncated or altered?): \(error.object ?? error.call): \(error.cause)")
      default: throw DatasetError(path, "cannot be read: \(error)")
      }
    }
  }

  private init(opening path: String, entry: DatasetIndex.Shard, dataset: String, labeled: Bool) throws {
    let file = try HDF5File.open(path)
    defer { try? file.close() }
    func require(_ fact: Bool, _ reason: @autoclosure () -> String) throws(DatasetError) {
      guard fact else { throw DatasetError(path, reason()) }
    }
    let schema = try file.attributes.string("schema")
    try require(schema == ShardLayout.schema, "its schema is \(schema), expected \(ShardLayout.schema)")
    let owner = try file.attributes.string("corpus")
    try require(owner == dataset, "belongs to the dataset \"\(owner)\", not to \"\(dataset)\"")

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
      "its images begin at byte \(images.fileOffset ?? 0), the index says \(entry.imageOffset)")
    imageOffsets = try find(ShardLayout.imageOffsets, count: entry.samples + 1).read(UInt64.self)
    try require(
      imageOffsets.rises(to: images.count), "\(ShardLayout.imageOffsets) do not rise from 0 to \(images.count)")

    func strings(_ bytes: String, _ offsets: String, count: Int) throws -> PackedStrings {
      let text = try find(bytes).read(UInt8.self)
      let packed = PackedStrings(bytes: text, offsets: try find(offsets, count: count + 1).read(UInt64.self))
      guard let packed else { throw DatasetError(path, "\(offsets) do not rise from 0 to \(text.count)") }
      return packed
    }
    captions = try strings(ShardLayout.captionBytes, ShardLayout.captionOffsets, count: entry.captions)
    let first = try find(ShardLayout.captionFirst, count: entry.samples + 1).read(UInt64.self)
    try require(
      first.rises(to: entry.captions) && entry.captions <= UInt32.max,
      "\(ShardLayout.captionFirst) does not rise from 0 to \(entry.captions), fewer than 2³²")
    captionFirst = first.map(UInt32.init)
    keys = try strings(ShardLayout.keyBytes, ShardLayout.keyOffsets, count: entry.samples)
    labels = labeled ? try find(ShardLayout.labels, count: entry.samples).read(Int32.self) : nil
    digest = try file.attributes.string("sha256")
    (self.path, self.entry, self.extents) = (path, entry, extents)
  }

  /// Returns the shard as a copy of its file has it.
  func moved(to path: String) -> Shard {
    var copy = self
    copy.path = path
    return copy
  }

  func imageExtent(_ index: Int) -> Range<Int> {
    entry.imageOffset + Int(imageOffsets[index])..<entry.imageOffset + Int(imageOffsets[index + 1])
  }

  func captions(_ index: Int) -> [String] { captionRange(index).map { captions[$0] } }
  func firstCaption(_ index: Int) -> Int { Int(captionFirst[index]) }
  func captionCount(_ index: Int) -> Int { captionRange(index).count }
  func caption(_ index: Int, choice: Int) -> String { captions[captionRange(index).lowerBound + choice] }
  func key(_ index: Int) -> String { keys[index] }
  func keyBytes(_ index: Int) -> ArraySlice<UInt8> { keys.bytes(index) }

  func label(_ index: Int) -> Int? {
    guard let label = labels?[index], label >= 0 else { return nil }
    return Int(label)
  }

  /// Returns the SHA-256 of the data sets' contents, which it reads from the file.
  func contentDigest() throws(FileError) -> String {
    let file = try OpenFile.reading(path)
    var hasher = SHA256()
    for extent in extents { try file.hash(extent, into: &hasher) }
    return hasher.finalize().hexadecimal
  }

  private func captionRange(_ index: Int) -> Range<Int> { Int(captionFirst[index])..<Int(captionFirst[index + 1]) }
}

extension Shard {
  /// All that is in memory of the shard as bytes, for ranks that have the same file.
  var packed: [UInt8] {
    var tables = PackedTables()
    tables.append(Array(digest.utf8))
    tables.append(extents.flatMap { [$0.lowerBound, $0.upperBound] })
    tables.append(imageOffsets)
    for strings in [captions, keys] {
      tables.append(strings.bytes)
      tables.append(strings.offsets)
    }
    tables.append(captionFirst)
    tables.append(labels ?? [])
    return tables.bytes
  }

  /// Takes over what another rank has read of the same file and packed.
  init(packed: [UInt8], path: String, entry: DatasetIndex.Shard, labeled: Bool) {
    var tables = PackedTables(bytes: packed)
    (self.path, self.entry) = (path, entry)
    digest = String(decoding: tables.next(UInt8.self), as: UTF8.self)
    let bounds = tables.next(Int.self)
    extents = stride(from: 0, to: bounds.count, by: 2).map { bounds[$0]..<bounds[$0 + 1] }
    imageOffsets = tables.next(UInt64.self)
    captions = PackedStrings(bytes: tables.next(UInt8.self), offsets: tables.next(UInt32.self))
    keys = PackedStrings(bytes: tables.next(UInt8.self), offsets: tables.next(UInt32.self))
    captionFirst = tables.next(UInt32.self)
    let labels = tables.next(Int32.self)
    self.labels = labeled ? labels : nil
  }
}

/// Arrays of numbers end to end as bytes, each behind the number of its elements.
private struct PackedTables {
  private(set) var bytes: [UInt8] = []
  private var place = 0

  init(bytes: [UInt8] = []) { self.bytes = bytes }

  mutating func append<Number: BitwiseCopyable>(_ values: [Number]) {
    unsafe withUnsafeBytes(of: values.count) { unsafe bytes.append(contentsOf: $0) }
    unsafe values.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) }
  }

  /// Returns the next array, which has elements of this type.
  mutating func next<Number: BitwiseCopyable>(_: Number.Type) -> [Number] {
    let count = take(1, of: Int.self)[0]
    return take(count, of: Number.self)
  }

  private mutating func take<Number: BitwiseCopyable>(_ count: Int, of _: Number.Type) -> [Number] {
    let range = place..<place + count * MemoryLayout<Number>.stride
    precondition(count >= 0 && range.upperBound <= bytes.count, "\(count) numbers at \(place) of \(bytes.count) bytes")
    place = range.upperBound
    return unsafe [Number](unsafeUninitializedCapacity: count) { buffer, initialized in
      unsafe bytes.withUnsafeBytes { source in
        unsafe UnsafeMutableRawBufferPointer(buffer).copyMemory(from: UnsafeRawBufferPointer(rebasing: source[range]))
      }
      initialized = count
    }
  }
}

/// Strings end to end in memory. Each takes 4 bytes and its UTF-8 bytes.
struct PackedStrings: Sendable {
  fileprivate let bytes: [UInt8]
  fileprivate let offsets: [UInt32]

  /// Takes over bytes and offsets of strings that were checked before.
  fileprivate init(bytes: [UInt8], offsets: [UInt32]) { (self.bytes, self.offsets) = (bytes, offsets) }

  /// Returns nil if `offsets` do not rise from 0 to the end of `bytes`, or if the bytes exceed 4 GiB.
  init?(bytes: [UInt8], offsets: [UInt64]) {
    guard bytes.count <= UInt32.max, offsets.rises(to: bytes.count) else { return nil }
    self.bytes = bytes
    self.offsets = offsets.map(UInt32.init)
  }

  var count: Int { offsets.count - 1 }
  func bytes(_ index: Int) -> ArraySlice<UInt8> { bytes[Int(offsets[index])..<Int(offsets[index + 1])] }
  subscript(index: Int) -> String { String(decoding: bytes(index), as: UTF8.self) }
}

extension [UInt64] {
  /// Returns true if the numbers begin with 0, never fall, and end with `end`.
  func rises(to end: Int) -> Bool {
    guard first == 0, last == UInt64(end) else { return false }
    return zip(self, dropFirst()).allSatisfy { $0 <= $1 }
  }
}

/// Collects the samples of one shard in memory, in the file's layout.
struct ShardBuilder {
  private var images = Strings()
  private var captions = Strings()
  private var captionFirst: [UInt64] = [0]
  private var keys = Strings()
  private var labels: [Int32] = []

  private struct Strings {
    var bytes: [UInt8] = []
    var offsets: [UInt64] = [0]

    mutating func append(_ string: some Sequence<UInt8>) {
      bytes.append(contentsOf: string)
      offsets.append(UInt64(bytes.count))
    }
  }

  var samples: Int { labels.count }
  var captionCount: Int { captions.offsets.count - 1 }
  var imageBytes: Int { images.bytes.count }
  /// The size of the shard's file in bytes, without headers.
  var size: Int { images.bytes.count + captions.bytes.count + keys.bytes.count + 24 * samples + 8 * captionCount }

  mutating func append(_ sample: DatasetSample, label: Int32) {
    images.append(sample.image)
    for caption in sample.captions { captions.append(caption.utf8) }
    captionFirst.append(UInt64(captionCount))
    keys.append(sample.key.utf8)
    labels.append(label)
  }

  /// Writes the shard as the new file `path`. Returns the SHA-256 of its contents and the offset of its images.
  func write(to path: String, dataset: String, labeled: Bool) throws(HDF5Error) -> (digest: String, imageOffset: Int) {
    let file = try HDF5File.create(path)
    var hasher = SHA256()
    @discardableResult
    func put<T: HDF5Element>(_ name: String, _ values: [T], _ hasher: inout SHA256) throws(HDF5Error) -> HDF5Dataset {
      let array = try file.createDataset(name, T.hdf5Type, shape: [values.count])
      try array.write(values)
      unsafe values.withUnsafeBytes { unsafe hasher.update($0) }
      return array
    }
    let stored = try put(ShardLayout.imageBytes, images.bytes, &hasher)
    try put(ShardLayout.imageOffsets, images.offsets, &hasher)
    try put(ShardLayout.captionBytes, captions.bytes, &hasher)
    try put(ShardLayout.captionOffsets, captions.offsets, &hasher)
    try put(ShardLayout.captionFirst, captionFirst, &hasher)
    try put(ShardLayout.keyBytes, keys.bytes, &hasher)
    try put(ShardLayout.keyOffsets, keys.offsets, &hasher)
    if labeled { try put(ShardLayout.labels, labels, &hasher) }
    let digest = hasher.finalize().hexadecimal
    try file.attributes.set("schema", ShardLayout.schema)
    try file.attributes.set("corpus", dataset)
    try file.attributes.set("samples", samples)
    try file.attributes.set("captions", captionCount)
    try file.attributes.set("sha256", digest)
    try file.close()
    return (digest, stored.fileOffset ?? 0)
  }
}
