import Dist
import Foundation

/// What carries messages within each node and between each two of them. No MPI tells it for every pair, so it is
/// measured: two ranks exchange some messages, and the interface or device whose counters rise has carried them.
struct TransportReport: Sendable, Codable, Equatable {
  struct Carrier: Sendable, Codable, Hashable {
    var transport: Transport
    /// The interfaces or devices whose counters rose; several where one is made of others, such as `bond0`.
    var names: [String]

    /// `TCP over eth0`.
    var text: String {
      if transport == .unknown { return "not known (no counter of an interface rose)" }
      return transport.rawValue + (names.isEmpty ? "" : " over \(names.joined(separator: " and "))")
    }
  }

  /// All pairs of ranks with the same carrier.
  struct Route: Sendable, Codable, Equatable {
    var carrier: Carrier
    /// Pairs of ranks, the lower first: two ranks of a node, or the first ranks of two nodes.
    var pairs: [[Int]]
  }

  struct Node: Sendable, Codable, Equatable {
    /// The first rank of the node.
    var rank: Int
    var hostname: String
    var devices: [NetworkDevice]
  }

  var nodes: [Node]
  /// The routes within nodes and between them; first those of most pairs.
  var inside, between: [Route]
  /// Variables of rank 0's environment that choose transports, as `OMPI_MCA_pml=ucx`.
  var settings: [String]
}

extension TransportReport {
  /// The size of a message, too large to travel with its envelope, and the number of messages each way.
  private static let (messageBytes, messages) = (1 << 18, 5)
  /// The seconds in which a card's counters may lag behind, in one pair and in all of them together.
  private static let lag = (pair: 1.5, all: 10.0)

  /// What one node has seen.
  private struct View: Codable {
    var node: Node
    var second: Int?
    var inside: Carrier?
    /// By carrier, the nodes that were met, as places in the order of their first ranks.
    var peers: [Carrier: [Int]] = [:]
  }

  /// Measures two ranks of every node, and then all pairs of nodes, as many at a time as have no node in common, so
  /// that n nodes take at most n rounds. Every rank must call it. The first rank of each node gets the report, all
  /// others nil; so does the only rank of a job. `nodes` has the first rank of each rank's node.
  init?(_ nodes: [Int], over ranks: Communicator) throws {
    guard ranks.size > 1 else { return nil }
    let leader = nodes[ranks.rank]
    let devices = NetworkDevice.all()
    var own = View(node: Node(rank: leader, hostname: ranks.hostname, devices: devices))
    own.second = nodes.indices.first { nodes[$0] == leader && $0 != leader }
    try ranks.barrier()
    if let second = own.second, ranks.rank == leader || ranks.rank == second {
      let peer = ranks.rank == leader ? second : leader
      let found = try Self.carrier(to: peer, begins: ranks.rank == leader, devices, patience: 0, over: ranks)
      // What no interface carries within a node, its memory does.
      own.inside = found.transport == .unknown ? Carrier(transport: .sharedMemory, names: []) : found
    }
    try ranks.barrier()
    let leaders = try ranks.split(group: ranks.rank == leader ? 0 : 1)
    guard ranks.rank == leader else { return nil }
    let (count, place) = (leaders.size, leaders.rank)
    let rounds = Self.rounds(of: count)
    let patience = min(Self.lag.pair, Self.lag.all / Double(rounds))
    for round in 0..<rounds {
      try leaders.barrier()
      guard let peer = Self.peer(of: place, in: round, of: count) else { continue }
      let carrier = try Self.carrier(to: peer, begins: place < peer, devices, patience: patience, over: leaders)
      own.peers[carrier, default: []].append(peer)
    }
    let views = try leaders.allGather(own)
    self.nodes = views.map(\.node)
    let seen = views.map { view in
      Dictionary(uniqueKeysWithValues: view.peers.flatMap { carrier, peers in peers.map { ($0, carrier) } })
    }
    var (inside, between): ([Carrier: [[Int]]], [Carrier: [[Int]]]) = ([:], [:])
    for (place, view) in views.enumerated() {
      if let second = view.second, let carrier = view.inside {
        inside[carrier, default: []].append([view.node.rank, second])
      }
      for (peer, carrier) in seen[place] where peer > place {
        let both = Self.combined(carrier, seen[peer][place])
        between[both, default: []].append([view.node.rank, views[peer].node.rank])
      }
    }
    (self.inside, self.between) = (Self.routes(inside), Self.routes(between))
    settings = Self.settings(ProcessInfo.processInfo.environment)
  }

  /// Returns the number of rounds in which each two of `count` nodes meet once.
  static func rounds(of count: Int) -> Int { count.isMultiple(of: 2) ? count - 1 : count }

  /// Returns whom a node meets in a round; nil if it has to pause. With m rounds, i and j meet in round i + j modulo
  /// m. The last of an even number of nodes meets the one that would meet itself.
  static func peer(of place: Int, in round: Int, of count: Int) -> Int? {
    let m = rounds(of: count)
    if m < count, place == count - 1 { return round * ((m + 1) / 2) % m }
    let other = (round - place + m) % m
    if other != place { return other }
    return m < count ? count - 1 : nil
  }

  /// Exchanges messages with a rank that does the same, and returns what has carried them as seen from here.
  private static func carrier(
    to peer: Int, begins: Bool, _ devices: [NetworkDevice], patience: Double, over ranks: Communicator
  ) throws -> Carrier {
    let before = NetworkCounters.now()
    if begins {
      _ = try PingPong.begin(with: peer, bytes: messageBytes, seconds: 0, over: ranks)
    } else {
      try PingPong.answer(peer, bytes: messageBytes, over: ranks)
    }
    let start = ContinuousClock.now
    while true {
      let carrier = Carrier(.now(), since: before, least: messages * messageBytes / 2, devices)
      if carrier.transport != .unknown || (ContinuousClock.now - start) / .seconds(1) >= patience { return carrier }
      Thread.sleep(forTimeInterval: 0.02)
    }
  }

  /// Returns what both ends have seen; an end whose counters did not rise has seen nothing.
  private static func combined(_ one: Carrier, _ other: Carrier?) -> Carrier {
    guard let other, other.transport != .unknown else { return one }
    guard one.transport == other.transport else { return one.transport == .unknown ? other : one }
    return Carrier(transport: one.transport, names: Set(one.names + other.names).sorted())
  }

  private static func routes(_ pairs: [Carrier: [[Int]]]) -> [Route] {
    let routes = pairs.map { Route(carrier: $0, pairs: $1.sorted { ($0[0], $0[1]) < ($1[0], $1[1]) }) }
    return routes.sorted { ($1.pairs.count, $0.carrier.text) < ($0.pairs.count, $1.carrier.text) }
  }

  /// Returns the variables that choose transports.
  static func settings(_ environment: [String: String]) -> [String] {
    let names = [
      "OMPI_MCA_pml", "OMPI_MCA_btl", "OMPI_MCA_mtl", "OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_btl_tcp_if_exclude",
      "UCX_TLS", "UCX_NET_DEVICES", "FI_PROVIDER", "PSM2_DEVICES",
    ]
    return names.compactMap { name in environment[name].map { "\(name)=\($0)" } }
  }
}

extension TransportReport.Carrier {
  /// Finds what has carried at least so many bytes each way since `before`. If a network interface has, it was TCP,
  /// also where its card's RDMA counters rose (IP over InfiniBand).
  init(_ now: NetworkCounters, since before: NetworkCounters, least: Int, _ devices: [NetworkDevice]) {
    let (interfaces, risen) = now.rises(since: before, least: least)
    let device = devices.first { $0.transport != .tcp && risen.contains($0.name) }
    if !interfaces.isEmpty {
      self.init(transport: .tcp, names: interfaces)
    } else if let device {
      self.init(transport: device.transport, names: risen)
    } else {
      self.init(transport: .unknown, names: [])
    }
  }
}

extension TransportReport {
  /// The report as lines of text.
  var lines: [String] {
    var facts: [(name: String, text: String)] = []
    if !inside.isEmpty { facts.append(("within a node", text(inside) { "on \(self.hosts($0))" })) }
    if !between.isEmpty { facts.append(("between nodes", text(between) { self.text(of: $0) })) }
    let found = Dictionary(grouping: nodes.flatMap(\.devices).filter(\.isUp)) { $0.text }.mapValues(\.count)
    let devices = found.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { text, count in
      count == nodes.count ? text : "\(text) on \(count) of \(nodes.count) nodes"
    }
    facts.append(("interfaces", devices.isEmpty ? "none" : devices.joined(separator: "; ")))
    if !settings.isEmpty { facts.append(("set", settings.joined(separator: " "))) }
    return ["transports, by the counters that rose while two ranks exchanged messages"]
      + facts.map { DoctorReport.fact($0.name, $0.text) }
  }

  /// Returns the carrier of most pairs, and the others with their pairs.
  private func text(_ routes: [Route], _ place: (Route) -> String) -> String {
    let others = routes.dropFirst().map { "\($0.carrier.text) \(place($0))" }
    return routes[0].carrier.text + (others.isEmpty ? "" : "; \(others.joined(separator: "; "))")
  }

  /// Returns `between node-1 and node-2`, or `between node-3 and all others` if all pairs of a host are among these.
  private func text(of route: Route) -> String {
    let counts = route.pairs.flatMap { $0 }.reduce(into: [:]) { $0[$1, default: 0] += 1 }
    let whole = nodes.map(\.rank).filter { counts[$0] == nodes.count - 1 }
    let rest = route.pairs.filter { !whole.contains($0[0]) && !whole.contains($0[1]) }
    if whole.count == nodes.count { return "between all nodes" }
    let shown = rest.prefix(3).map { "\(name($0[0])) and \(name($0[1]))" }
    let more = rest.count > shown.count ? ["\(rest.count - shown.count) more pairs"] : []
    return "between "
      + (whole.map { "\(name($0)) and all others" } + shown + more).joined(separator: ", ")
  }

  private func name(_ rank: Int) -> String { nodes.first { $0.rank == rank }?.hostname ?? "rank \(rank)" }

  /// Returns the hosts of a route's pairs, the first eight by name.
  private func hosts(_ route: Route) -> String { Self.list(route.pairs.flatMap { $0 }.compactMap(host)) }
  /// Returns the host of a node's first rank.
  private func host(_ rank: Int) -> String? { nodes.first { $0.rank == rank }?.hostname }

  /// Returns the first eight of some names, each once and in order, and how many more there are.
  static func list(_ names: [String]) -> String {
    let all = Set(names).sorted()
    return all.prefix(8).joined(separator: ", ") + (all.count > 8 ? " and \(all.count - 8) more" : "")
  }

  /// Returns the problems, each with what to set for the fabric that is there. `layer` is rank 0's.
  func findings(_ layer: MessageLayer?) -> [String] {
    var found: [String] = []
    for route in inside where route.carrier.transport == .tcp {
      found.append(
        "ranks of one node send their messages by \(route.carrier.text) (\(hosts(route))) and not through shared"
          + " memory; let OMPI_MCA_btl name vader (sm in Open MPI 5), as self,vader,tcp, or unset it")
    }
    for route in between where route.carrier.transport == .tcp {
      if let text = advice(route, layer) { found.append(text) }
    }
    if between.count > 1 {
      let texts = between.map { "\($0.carrier.text) \(text(of: $0))" }
      found.append(
        "hosts exchange messages in different ways (\(texts.joined(separator: "; "))), and every step waits for the"
          + " slowest; give all of them the same network, drivers and settings")
    }
    return found
  }

  /// Returns what to set for a faster network that all nodes of a route have; nil if they have none.
  private func advice(_ route: Route, _ layer: MessageLayer?) -> String? {
    let ranks = Set(route.pairs.flatMap { $0 })
    let concerned = nodes.filter { ranks.contains($0.rank) }
    guard let first = concerned.first else { return nil }
    let start = "\(Self.list(concerned.map(\.hostname))) exchange messages by \(route.carrier.text), although"
    // Devices may have other names on other hosts.
    for transport in [Transport.infiniBand, .omniPath] {
      func fabric(_ node: Node) -> NetworkDevice? { node.devices.first { $0.transport == transport && $0.isUp } }
      guard let device = fabric(first), concerned.allSatisfy({ fabric($0) != nil }) else { continue }
      let option =
        transport == .omniPath
        ? "mpirun --mca pml cm --mca mtl psm2 (or --mca mtl ofi, where Open MPI has no psm2)"
        : "mpirun --mca pml ucx, which takes a UCX built for several threads (--enable-mt)"
      return "\(start) they have \(device.text); type \(option)"
    }
    let shared = concerned.reduce(Set(first.devices)) { $0.intersection($1.devices) }.filter { $0.transport == .tcp }
    func speed(_ device: NetworkDevice) -> Double { device.isUp ? device.speed ?? 0 : 0 }
    let used = first.devices.filter { route.carrier.names.contains($0.name) }.map(speed).max() ?? 0
    guard let faster = shared.max(by: { (speed($0), $1.name) < (speed($1), $0.name) }), used > 0, speed(faster) > used
    else { return nil }
    let option =
      layer?.selected == "ucx"
      ? "mpirun -x UCX_NET_DEVICES=\(faster.name)" : "mpirun --mca btl_tcp_if_include \(faster.name)"
    return "\(start) \(faster.text) is faster; if it joins these hosts, type \(option)"
  }
}
