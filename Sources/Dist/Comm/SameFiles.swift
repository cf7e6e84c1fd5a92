// Nodes may have disks of their own, or stale copies, under the same paths, and ranks with different files compute
// something that no file describes. Whatever several ranks read is therefore compared before it is used. Where they
// agree, which is nearly always, the comparison takes as much memory and as many bytes on any number of ranks. Every
// rank must call these.

/// A difference between ranks that must agree. All ranks throw it.
public struct RankDifference: ExitCoded, Hashable, CustomStringConvertible {
  public let description: String
  public let status: ExitStatus
  public var isShared: Bool { true }
}

extension Communicator {
  /// Returns true on all ranks if they all give the same bytes, by the largest and the smallest of their SHA-256.
  func areSame(_ bytes: some Collection<UInt8>) throws(MPIError) -> Bool {
    let digest = SHA256.hash(bytes).bytes
    let words = stride(from: 0, to: digest.count, by: 8).map { at in
      digest[at..<at + 8].reduce(0) { $0 << 8 | Int($1) }
    }
    // Of complements the largest is that of the smallest.
    var limits = words + words.map { ~$0 }
    try allReduce(&limits, .maximum)
    return zip(limits.prefix(words.count), limits.suffix(words.count)).allSatisfy { $0 == ~$1 }
  }

  /// Throws a `RankDifference` if `fact` is not the same on every rank. It says that `rank 1 on b has a different WHAT
  /// than rank 0 on a: ADVICE`, and if the fact is shown, what it is on both.
  public func requireSame(
    _ what: String, _ fact: String, isShown: Bool = false, verbs: (one: String, many: String) = ("has", "have"),
    advice: String = "copy the same files to all nodes", status: ExitStatus = .badData
  ) throws {
    if try areSame(fact.utf8) { return }
    let all = try allGather(SHA256.hash(fact.utf8).bytes + Array(hostname.utf8))
    let length = SHA256.byteCount
    let others = all.indices.filter { all[$0].prefix(length) != all[0].prefix(length) }
    guard let first = others.first else { return }
    func host(_ rank: Int) -> String { String(decoding: all[rank].dropFirst(length), as: UTF8.self) }
    // At most eight of the ranks with their hosts: `rank 3 on node1`, `ranks 3, 4, 5 on node1, node2`.
    let shown = others.prefix(8)
    let more = others.count > shown.count ? " and \(others.count - shown.count) more" : ""
    let (ranks, verb) = others.count == 1 ? ("rank", verbs.one) : ("ranks", verbs.many)
    let who = "\(ranks) \(shown.map(String.init).joined(separator: ", "))\(more)"
    var text = "\(who) on \(Set(shown.map(host)).sorted().joined(separator: ", ")) \(verb) a different \(what)"
    text += " than rank 0 on \(host(0)): "
    if isShown {
      let facts = try allGather(Array(fact.utf8)).map { String(decoding: $0, as: UTF8.self) }
      text += "\(facts[first]) on rank \(first), \(facts[0]) on rank 0; "
    }
    throw RankDifference(description: text + advice, status: status)
  }

  /// Does the same for a file, by its size and the SHA-256 of what this rank has read of it; a small file, without one,
  /// is read here.
  public func requireSameFile(_ what: String, _ path: String, sha256: String? = nil) throws {
    let file = try OpenFile.reading(path)
    let (bytes, sum) = (try file.size(), try sha256 ?? file.sha256())
    try requireSame(what, "\(bytes) bytes with the SHA-256 \(sum)", isShown: true)
  }

  /// Returns the ranks whose `path` leads to the same file as this rank's, in their order here: all ranks on a disk
  /// that they share, and those of a node if each node has a copy.
  package func sharing(_ path: String) throws -> Communicator {
    let own = Array(try OpenFile.reading(path).identity().utf8)
    if try areSame(own) { return self }
    let files = try allGather(own)
    return try split(group: files.firstIndex(of: own) ?? rank)
  }

  /// Returns the SHA-256 of a large file, which one rank computes by `sum` for all whose path leads to the same file.
  public func sha256(of path: String, once sum: () throws -> String) throws -> String {
    try sharing(path).broadcast(sum)
  }
}
