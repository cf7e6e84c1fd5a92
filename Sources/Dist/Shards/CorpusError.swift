/// Something wrong with a corpus: its index, one of its shards, or a sample handed to its writer.
public struct CorpusError: Error, ExitCoded, Hashable, CustomStringConvertible {
  /// The index or shard, or the corpus's name while it is being written.
  public let place: String
  public let reason: String

  public init(_ place: String, _ reason: String) {
    self.place = place
    self.reason = reason
  }

  public var exitCode: Int32 { 65 }
  public var description: String { "\(place): \(reason)" }
}
