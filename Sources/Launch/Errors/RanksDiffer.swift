import Dist

extension Communicator {
  /// Throws `RanksDiffer` if `text` is not the same on every rank. Every rank must call it.
  ///
  /// Ranks with different options would wait for each other in different collectives. Ranks with different files, which
  /// is possible because each node may have its own disk, would train on data that no run file describes.
  func requireSame(_ what: String, _ text: String) throws {
    let all = try allGather(SHA256.hash(text.utf8).bytes + [UInt8](hostname.utf8))
    let length = SHA256.byteCount
    let others = all.indices.filter { all[$0].prefix(length) != all[0].prefix(length) }
    guard !others.isEmpty else { return }
    throw RanksDiffer(
      what: what, ranks: others, hosts: others.map { String(decoding: all[$0].dropFirst(length), as: UTF8.self) })
  }
}

/// The ranks were started with different options, or have different files.
struct RanksDiffer: ExitCoded, CustomStringConvertible {
  let what: String
  /// The ranks that differ from rank 0, and their hosts.
  let ranks: [Int]
  let hosts: [String]

  var isShared: Bool { true }
  var status: ExitStatus { what == "run" ? .usage : .badData }
  var description: String {
    let (was, has) = ranks.count == 1 ? ("was", "has") : ("were", "have")
    return switch what {
    case "run":
      "\(who) \(was) started with a different run file or options than rank 0: start all with the same run file, "
        + "--set, --resume and other options"
    case "program":
      "\(who) \(has) a different program than rank 0: copy the same build of kinship to all nodes"
    default: "\(who) \(has) a different \(what) than rank 0: copy the same files to all nodes"
    }
  }

  /// At most eight of the ranks with their hosts, such as `rank 3 on node1` or `ranks 3, 4, 5 on node1, node2`.
  private var who: String {
    let shown = ranks.prefix(8)
    let more = ranks.count > shown.count ? " and \(ranks.count - shown.count) more" : ""
    let places = Set(hosts.prefix(shown.count)).sorted().joined(separator: ", ")
    return
      "\(ranks.count == 1 ? "rank" : "ranks") \(shown.map(String.init).joined(separator: ", "))\(more) on \(places)"
  }
}
