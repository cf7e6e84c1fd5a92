/// The samples of one shard, gathered in memory in the form of the file.
struct ShardBuilder {
  private var images = Strings()
  private var captions = Strings()
  private var captionFirst: [UInt64] = [0]
  private var keys = Strings()
  private var labels: [Int32] = []

  /// Byte strings end to end, with where each begins and the last ends.
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
  /// What the shard's file will hold, headers apart.
  var size: Int { images.bytes.count + captions.bytes.count + keys.bytes.count + 24 * samples + 8 * captionCount }

  mutating func append(_ sample: CorpusSample, label: Int32) {
    images.append(sample.image)
    for caption in sample.captions { captions.append(caption.utf8) }
    captionFirst.append(UInt64(captionCount))
    keys.append(sample.key.utf8)
    labels.append(label)
  }

  /// Writes the shard as the new file `path`; returns the SHA-256 of its contents and where its pictures begin.
  func write(
    to path: String, corpus: String, labeled: Bool
  ) throws(HDF5Error) -> (digest: String, imageOffset: Int) {
    let file = try HDF5File.create(path)
    var hasher = SHA256()
    @discardableResult
    func put<T: HDF5Element>(_ name: String, _ values: [T], _ hasher: inout SHA256) throws(HDF5Error) -> HDF5Dataset {
      let dataset = try file.createDataset(name, T.hdf5Type, shape: [values.count])
      try dataset.write(values)
      hasher.update(numbers: values)
      return dataset
    }
    let pictures = try put(ShardLayout.imageBytes, images.bytes, &hasher)
    try put(ShardLayout.imageOffsets, images.offsets, &hasher)
    try put(ShardLayout.captionBytes, captions.bytes, &hasher)
    try put(ShardLayout.captionOffsets, captions.offsets, &hasher)
    try put(ShardLayout.captionFirst, captionFirst, &hasher)
    try put(ShardLayout.keyBytes, keys.bytes, &hasher)
    try put(ShardLayout.keyOffsets, keys.offsets, &hasher)
    if labeled { try put(ShardLayout.labels, labels, &hasher) }
    let digest = hasher.finalize().hexadecimal
    try file.attributes.set(ShardLayout.Attribute.schema, ShardLayout.schema)
    try file.attributes.set(ShardLayout.Attribute.corpus, corpus)
    try file.attributes.set(ShardLayout.Attribute.samples, samples)
    try file.attributes.set(ShardLayout.Attribute.captions, captionCount)
    try file.attributes.set(ShardLayout.Attribute.sha256, digest)
    try file.close()
    return (digest, pictures.fileOffset ?? 0)
  }
}
