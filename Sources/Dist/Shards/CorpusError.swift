/// Something wrong with a corpus: its index, one of its shards, or a sample handed to its writer.
public struct CorpusError: Error, ExitCoded, Hashable, CustomStringConvertible {
  /// The index or shard, or the corpus's name while it is being written.
  public let place: String
  public let reason: String
  /// 65 where what is stored is wrong, 74 where the system refused.
  public let exitCode: Int32

  public init(_ place: String, _ reason: String, exitCode: Int32 = 65) {
    self.place = place
    self.reason = reason
    self.exitCode = exitCode
  }

  public var description: String { "\(place): \(reason)" }
}
