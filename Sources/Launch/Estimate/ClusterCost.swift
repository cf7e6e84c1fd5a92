import ArgumentParser
import Dist
import Foundation

/// The cost of a message of n bytes between two ranks, α + n β: α in seconds, and 1/β in bytes per second.
struct Link: Equatable {
  var latency, bandwidth: Double
  /// The link between ranks of one node, unless it has been measured.
  static let sharedMemory = Link(latency: 1e-6, bandwidth: 4e9)
  /// The link between nodes, unless it has been measured or is given: that of 10 Gbit/s over TCP.
  static let network = Link(latency: 30e-6, bandwidth: 1.25e9)
  /// The bounds of seconds and of bytes per second.
  static let sizes = 1e-12...1e15
}

extension Link {
  /// Takes the medians of the measured pairs; nil if there are none.
  init?(_ pairs: [NetworkReport.Pair]) {
    guard !pairs.isEmpty else { return nil }
    self.init(latency: 1e-6 * pairs.map(\.latency).median, bandwidth: 1e9 * pairs.map(\.bandwidth).median)
  }
}

/// The seconds that collectives take on P ranks, of which each node has R. A message of n bytes takes α + n β, with the
/// α and β of the network between nodes, and those of shared memory within a node. The faster of two algorithms counts;
/// the choice that MPI makes by size and number of ranks comes close to it.
struct ClusterCost {
  /// The limit on P, because an estimate lists the ranks' pieces of every bucket.
  static let mostRanks = 1 << 16
  /// P, and how many nodes they are on.
  var ranks, nodes: Int
  /// The link between nodes, and that between the ranks of a node.
  var network, memory: Link
  /// R.
  var ranksOfNode: Int { max((ranks + nodes - 1) / max(nodes, 1), 1) }
  private var slowest: Link { nodes > 1 ? network : memory }

  /// Returns the same cluster with another number of ranks: as many on each node, and as many nodes as that takes.
  func with(ranks other: Int) -> ClusterCost {
    var cost = self
    (cost.ranks, cost.nodes) = (other, (other + ranksOfNode - 1) / ranksOfNode)
    return cost
  }

  /// Returns the seconds of a reduce-scatter or an all-gather of `n` bytes in all, around a ring in the order of ranks:
  /// (P − 1)(α + n/P β). Only one rank of a node sends to another node, so a link carries one message at a time.
  func ring(_ n: Double) -> Double { Double(ranks - 1) * (slowest.latency + n / Double(ranks) / slowest.bandwidth) }

  /// Returns the seconds of the same by halving (or doubling) distances, of which Rabenseifner's all-reduce consists:
  /// log₂ P messages of n/2, n/4, … bytes, log₂ P α + (1 − 1/P) n β. As long as the partners are on other nodes, all R
  /// ranks of a node send at the same time, so β counts R times.
  func halving(_ n: Double) -> Double {
    var (seconds, distance, bytes) = (0.0, Double(ranks), n)
    while distance > 1 {
      distance /= 2
      bytes /= 2
      let crosses = nodes > 1 && distance >= Double(ranksOfNode)
      let (link, each) = crosses ? (network, bytes * Double(ranksOfNode)) : (memory, bytes)
      seconds += link.latency + each / link.bandwidth
    }
    return seconds
  }

  /// Returns the seconds of a reduce-scatter or an all-gather of `n` bytes in all.
  func scatterOrGather(_ n: Double) -> Double { ranks == 1 ? 0 : min(ring(n), halving(n)) }

  /// Returns the seconds of an all-to-all in which each rank receives `n` bytes: (P − 1) α + R n β, since all ranks of
  /// a node receive at the same time.
  func allToAll(_ n: Double) -> Double {
    guard ranks > 1 else { return 0 }
    return Double(ranks - 1) * slowest.latency + Double(nodes > 1 ? ranksOfNode : 1) * n / slowest.bandwidth
  }

  /// Returns the seconds of a reduction of `n` bytes in all in which every rank sends each other one its piece, as
  /// `NodeExchange` does without levels: an all-to-all in which each rank receives (1 − 1/P) n bytes.
  func pairwise(_ n: Double) -> Double { allToAll(n * Double(ranks - 1) / Double(ranks)) }

  /// Returns the seconds of a reduction, or of an all-gather, in two levels of N nodes:
  /// (N − 1)(α + n/N β) with the network's α and β for `n` bytes between nodes, whose ranks share a link, and
  /// (R − 1)(α + m/R β) with those of memory for the `m` bytes within a node.
  func twoLevels(_ n: Double, within m: Double) -> Double {
    let (nodes, each) = (Double(nodes), Double(ranksOfNode))
    let between = (nodes - 1) * (network.latency + n / nodes / network.bandwidth)
    return between + (each - 1) * (memory.latency + m / each / memory.bandwidth)
  }

  /// Returns the seconds of one call of a collective.
  func seconds(_ payload: RunEstimate.Payload) -> Double {
    // Exchanges before the last have latencies of their own; the bytes of all are counted together.
    let others = Double(payload.exchanges - 1)
    return switch payload.way {
    case .pairs: allToAll(Double(payload.received)) + others * allToAll(0)
    case .levels(let within):
      twoLevels(Double(payload.bytes), within: Double(within)) + others * twoLevels(0, within: 0)
    case .collective where payload.kind == .allReduce: smallAllReduce()
    case .collective: scatterOrGather(Double(payload.bytes))
    }
  }

  /// Returns the bytes that enter a node from others in one call of a collective, as many as leave it.
  func bytesIntoNode(_ payload: RunEstimate.Payload) -> Int {
    guard nodes > 1 else { return 0 }
    let all = Double(payload.bytes)
    let bytes =
      switch payload.way {
      case .pairs:
        Double(ranksOfNode * (ranks - ranksOfNode)) / Double(max(ranks - 1, 1)) * Double(payload.received)
      case .levels: nodeBytes(levelling: all)
      case .collective where payload.kind == .allReduce: nodeBytes(reducing: all)
      // Each node but one receives it once.
      case .collective where payload.kind == .broadcast: nodeBytes(levelling: all)
      case .collective: nodeBytes(scattering: all)
      }
    return Int(bytes.rounded())
  }

  /// Returns the seconds of an all-reduce of a few numbers, which go along a tree to one rank and back: 2 log₂ P α.
  func smallAllReduce() -> Double { ranks == 1 ? 0 : 2 * log2(Double(ranks)).rounded(.up) * slowest.latency }
}

extension ClusterCost {
  /// Measures the links from rank 0 to a rank of its node and to one of another node. Every rank must call it.
  init(measuredOver ranks: Communicator) throws {
    let nodes = try ranks.nodes()
    func link(to peer: Int?, or usual: Link) throws -> Link {
      guard let peer else { return usual }
      try ranks.barrier()
      let found = try PingPong.link(0, peer, seconds: (0.01, 0.02), over: ranks)
      var figures = [found?.latency ?? 0, found?.bandwidth ?? 0]
      try ranks.allReduce(&figures, .maximum)
      return Link(latency: figures[0], bandwidth: figures[1])
    }
    let memory = try link(to: nodes.indices.dropFirst().first { nodes[$0] == 0 }, or: .sharedMemory)
    let network = try link(to: nodes.firstIndex { $0 != 0 }, or: memory)
    self.init(ranks: ranks.size, nodes: Set(nodes).count, network: network, memory: memory)
  }
}

extension Communicator {
  /// Returns the first rank of each rank's node (whose ranks share memory, by MPI's account). Every rank must call it.
  func nodes() throws -> [Int] { try allGather(node().broadcast { rank }) }
}

/// Bytes per second in the units of a user: bits as tc writes them, or bytes.
struct Bandwidth: ExpressibleByArgument, Equatable {
  let bytes: Double

  init?(argument: String) {
    let units = [("gbit", 1e9 / 8), ("mbit", 1e6 / 8), ("kbit", 1e3 / 8), ("GB", 1e9), ("MB", 1e6)]
    guard let value = Self.value(argument, units) else { return nil }
    bytes = value
  }

  /// Returns the number in front of one of the units, times the unit's worth; nil unless it is of a size that occurs,
  /// so that no time computed from it is infinite.
  fileprivate static func value(_ text: String, _ units: [(name: String, worth: Double)]) -> Double? {
    let unit = units.first { text.hasSuffix($0.name) }
    guard let unit, let number = Double(text.dropLast(unit.name.count)), Link.sizes ~= number * unit.worth else {
      return nil
    }
    return number * unit.worth
  }
}

/// A short time in the units of a user.
struct Latency: ExpressibleByArgument, Equatable {
  let seconds: Double

  init?(argument: String) {
    guard let value = Bandwidth.value(argument, [("us", 1e-6), ("ms", 1e-3), ("s", 1)]) else { return nil }
    seconds = value
  }
}

/// The figures that a plan takes from the output of `kinship doctor --json`.
struct DoctorFigures {
  /// The rates of the slowest rank.
  let rates: ProductRates
  /// The link between nodes, and that within a node; nil if it was not measured.
  let network, memory: Link?
  /// The processors of all ranks, which decide `precision: auto`; nil if an earlier version wrote the file.
  let processors: [RankProcessor]?

  init(contentsOf path: String) throws {
    struct Report: Decodable {
      struct Rank: Decodable {
        struct Host: Decodable { var identity: Processor? }
        var allCores: Double
        var allCoresRounded: Double?
        var hostname: String?
        var host: Host?
      }
      var ranks: [Rank]
      var network: NetworkReport?
    }
    let report: Report
    // Warnings may stand before the last line.
    let last = try TextFile.read(path).split(whereSeparator: \.isNewline).last ?? ""
    do { report = try JSONDecoder().decode(Report.self, from: Data(last.utf8)) } catch {
      throw UserError(path, "is not what kinship doctor --json prints: \(error.explanation)")
    }
    // If one rank has no bf16 products, no rank uses them.
    let rounded = report.ranks.compactMap(\.allCoresRounded)
    let bf16 = rounded.count == report.ranks.count ? rounded.min() : nil
    let rates = 1e-6...1e12
    guard let slowest = report.ranks.map(\.allCores).min(), rates ~= slowest, rates ~= bf16 ?? slowest else {
      throw UserError(path, "lists no rank with a speed of matrix products; write it with kinship doctor --json again")
    }
    self.rates = ProductRates(fp32: 1e9 * slowest, bf16: 1e9 * (bf16 ?? slowest))
    let known = report.ranks.compactMap { rank in
      rank.hostname.flatMap { name in rank.host?.identity.map { RankProcessor(hostname: name, processor: $0) } }
    }
    processors = known.count == report.ranks.count ? known : nil
    network = Link(report.network?.pairs.filter { !$0.sharesNode } ?? [])
    memory = Link(report.network?.pairs.filter(\.sharesNode) ?? [])
    for link in [network, memory].compactMap({ $0 })
    where !(Link.sizes ~= link.latency && Link.sizes ~= link.bandwidth) {
      throw UserError(path, "has a latency or bandwidth that no network has; write it with kinship doctor --json again")
    }
  }
}
