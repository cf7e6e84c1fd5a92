/// The names in a corpus shard, and the order in which its contents are hashed.
///
/// Bytes of all samples stand end to end; sample i's are `offsets[i]` ..< `offsets[i + 1]`. The captions of sample i
/// are those numbered `first[i]` ..< `first[i + 1]`.
enum ShardLayout {
  static let schema = "kinship/corpus-shard/1"

  static let imageBytes = "images/bytes"
  static let imageOffsets = "images/offsets"
  static let captionBytes = "captions/bytes"
  static let captionOffsets = "captions/offsets"
  static let captionFirst = "captions/first"
  static let keyBytes = "keys/bytes"
  static let keyOffsets = "keys/offsets"
  /// Absent from a corpus without labels; −1 for a sample without one.
  static let labels = "labels"

  /// The attributes of the file's root.
  enum Attribute {
    static let schema = "schema"
    static let corpus = "corpus"
    static let samples = "samples"
    static let captions = "captions"
    static let sha256 = "sha256"
  }
}

extension SHA256 {
  /// Adds numbers in their stored form, little-endian.
  mutating func update<T: HDF5Element>(numbers: [T]) {
    unsafe numbers.withUnsafeBytes { unsafe update($0) }
  }
}
