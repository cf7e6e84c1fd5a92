import Dist

extension Communicator {
  /// Refuses ranks that hold another `text` than rank 0. Every rank must call it.
  ///
  /// Ranks that were told or hold different things would wait for each other in different collectives, or train on
  /// what no run file says: each rank may have its own disk.
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
  /// Those that hold something else than rank 0, and where they run.
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
      "\(who) \(has) another program than rank 0: copy the same build of kinship to all nodes"
    default: "\(who) \(has) another \(what) than rank 0: copy the same files to all nodes"
    }
  }

  /// `rank 3 on node1`, `ranks 3, 4, 5 on node1, node2`: at most eight ranks, and their hosts.
  private var who: String {
    let shown = ranks.prefix(8)
    let more = ranks.count > shown.count ? " and \(ranks.count - shown.count) more" : ""
    let places = Set(hosts.prefix(shown.count)).sorted().joined(separator: ", ")
    return
      "\(ranks.count == 1 ? "rank" : "ranks") \(shown.map(String.init).joined(separator: ", "))\(more) on \(places)"
  }
}
