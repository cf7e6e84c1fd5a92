internal import Tensor

extension Communicator {
  /// Throws `ReplicasDiffer` if the ranks have different hashes of their parameters. Every rank must call it.
  public func requireSame(hash: UInt64, after step: Int) throws {
    let bytes = hash.littleEndianBytes
    if try areSame(bytes) { return }
    let all = try allGather(bytes + Array(hostname.utf8))
    // The hash of most ranks counts as right; in a tie, that of the lowest rank.
    let groups = Dictionary(grouping: all.indices) { all[$0].prefix(8) }
    let largest = groups.values.max { ($0.count, -$0[0]) < ($1.count, -$1[0]) } ?? []
    let others = all.indices.filter { !largest.contains($0) }
      .map { (rank: $0, host: String(decoding: all[$0].dropFirst(8), as: UTF8.self)) }
    throw ReplicasDiffer(step: step, others: others, size: size)
  }
}

/// Ranks whose parameters differ from those of the other ranks, although all computed them from the same numbers.
public struct ReplicasDiffer: ExitCoded, CustomStringConvertible {
  public let step: Int
  public let others: [(rank: Int, host: String)]
  public let size: Int
  public var isShared: Bool { true }
  public var status: ExitStatus { .internalError }
  public var description: String {
    let names = others.map { "rank \($0.rank) on \($0.host)" }.joined(separator: ", ")
    return
      "after step \(step) not all ranks have the same parameters: \(names) differ\(others.count == 1 ? "s" : "") from "
      + "the other \(size - others.count); memory or network may have failed there: resume from an earlier checkpoint, "
      + "without that host if it happens again"
  }
}
