import Dist
import Foundation
import Tensor

/// Measurements between the ranks of a job: latency, bandwidth, and differences of clocks.
struct NetworkReport: Sendable, Codable, Equatable {
  /// Two ranks, measured while all others are silent.
  struct Pair: Sendable, Codable, Equatable {
    var first, second: Int
    /// True if they share a node's memory.
    var sharesNode: Bool
    /// Half a round trip of a few bytes in microseconds, the lower quartile of the rounds.
    var latency: Double
    /// GB/s of messages of 1 MiB, one way at a time, the upper quartile of the rounds.
    var bandwidth: Double
  }

  /// A collective of all ranks.
  struct Collective: Sendable, Codable, Equatable {
    /// The bytes of the whole array.
    var bytes: Int
    /// The time of the slowest rank, and the GB/s that each rank receives.
    var seconds, bandwidth: Double
  }

  /// The clock of a node, compared with that of rank 0.
  struct Clock: Sendable, Codable, Equatable {
    /// The first rank of the node, which was asked.
    var rank: Int
    /// The seconds by which it is ahead, and half the round trip in which it was read.
    var offset, uncertainty: Double
  }

  var pairs: [Pair]
  /// True if these are all pairs. Otherwise they are a ring of all ranks and as many random pairs.
  var isComplete: Bool
  var reduceScatter, allGather: Collective
  var clocks: [Clock]
}

extension NetworkReport {
  /// Measures one pair after the other; nil for only one rank. Every rank must call it, and all get the same report.
  /// `nodes` has the first rank of each rank's node.
  init?(_ nodes: [Int], over ranks: Communicator) throws {
    guard ranks.size > 1 else { return nil }
    struct Found: Codable {
      var pairs: [Pair] = []
      var clocks: [Clock] = []
    }
    var own = Found()
    let chosen = Self.pairs(of: ranks.size)
    for (first, second) in chosen {
      try ranks.barrier()
      guard let link = try PingPong.link(first, second, seconds: (0.02, 0.06), over: ranks) else { continue }
      own.pairs.append(
        Pair(
          first: first, second: second, sharesNode: nodes[first] == nodes[second], latency: 1e6 * link.latency,
          bandwidth: 1e-9 * link.bandwidth))
    }
    for leader in Set(nodes).sorted() where leader != 0 {
      try ranks.barrier()
      if ranks.rank == 0 {
        let best = try PingPong.begin(with: leader, bytes: 16, seconds: 0.02, over: ranks).quickest
        own.clocks.append(Clock(rank: leader, offset: best.offset, uncertainty: best.seconds / 2))
      } else if ranks.rank == leader {
        try PingPong.answer(0, bytes: 16, over: ranks)
      }
    }
    let found = try ranks.allGather(own)
    pairs = found.flatMap(\.pairs).sorted { ($0.first, $0.second) < ($1.first, $1.second) }
    isComplete = chosen.count == ranks.size * (ranks.size - 1) / 2
    clocks = found[0].clocks
    (reduceScatter, allGather) = try Self.collectives(over: ranks)
  }

  /// Returns all pairs of up to 8 ranks; of more ranks, the neighbours in a ring and as many random pairs.
  static func pairs(of size: Int) -> [(Int, Int)] {
    if size <= 8 { return (0..<size).flatMap { first in (first + 1..<size).map { (first, $0) } } }
    var chosen = (0..<size).map { (min($0, ($0 + 1) % size), max($0, ($0 + 1) % size)) }
    var taken = Set(chosen.map { $0.0 * size + $0.1 })
    var random = KeyedRandom(seed: 0, purpose: "pairs")
    while chosen.count < 2 * size {
      let (one, other) = (random.below(size), random.below(size))
      let pair = (min(one, other), max(one, other))
      if one != other, taken.insert(pair.0 * size + pair.1).inserted { chosen.append(pair) }
    }
    return chosen
  }

  /// Measures the two collectives of a training step on 16 MiB: the better of two rounds after a small one.
  private static func collectives(over ranks: Communicator) throws -> (Collective, Collective) {
    let whole = Tensor<Float>(Shape(1 << 22))
    func measure(_ body: (Tensor<Float>, [Range<Int>]) throws -> Void) throws -> Collective {
      let small = whole.slice(0..<1 << 16)
      try body(small, ranks.slices(of: small.count))
      let ranges = ranks.slices(of: whole.count)
      var seconds = Double.infinity
      for _ in 0..<2 {
        try ranks.barrier()
        let round = try ContinuousClock().measure { try body(whole, ranges) }
        seconds = min(seconds, try ranks.allReduce(round / .seconds(1), .maximum))
      }
      let bytes = 4 * whole.count
      let received = Double(bytes) * Double(ranks.size - 1) / Double(ranks.size)
      return Collective(bytes: bytes, seconds: seconds, bandwidth: 1e-9 * received / seconds)
    }
    let own = Tensor<Float>(Shape(whole.count / ranks.size + 1))
    let reduceScatter = try measure { whole, ranges in
      try ranks.reduceScatter(whole, into: own.slice(0..<ranges[ranks.rank].count), ranges: ranges)
    }
    return (reduceScatter, try measure { try ranks.allGather(partsOf: $0, ranges: $1) })
  }

  /// The measurements as lines of text.
  var lines: [String] {
    let ranks = (pairs.map(\.second).max() ?? 0) + 1
    let some = "a ring and \(pairs.count - ranks) random pairs of \(ranks) ranks"
    let measured = isComplete ? "all \(Figures.count(pairs.count, "pair")) of ranks" : some
    var facts: [(name: String, text: String)] = []
    for (name, those) in [("within a node", inside), ("between nodes", between)] where !those.isEmpty {
      let (latency, bandwidth) = (Self.spread(those.map(\.latency)), Self.spread(those.map(\.bandwidth)))
      facts.append((name, "latency \(latency) µs, bandwidth \(bandwidth) GB/s"))
    }
    for (name, found) in [("reduce-scatter", reduceScatter), ("all-gather", allGather)] {
      let time = "\(Figures.bytes(found.bytes)) in \(Figures.significant(1000 * found.seconds, 3)) ms"
      facts.append((name, "\(time), \(Figures.significant(found.bandwidth, 3)) GB/s into each rank"))
    }
    if let worst = clocks.max(by: { abs($0.offset) < abs($1.offset) }) {
      let apart = "at most \(Figures.significant(1000 * abs(worst.offset), 3)) ms apart"
      facts.append(("clocks", "\(apart) (± \(Figures.significant(1000 * worst.uncertainty, 2)))"))
    }
    return ["network: \(measured), one after the other; then all ranks at once"]
      + facts.map { DoctorReport.fact($0.name, $0.text) }
  }

  private var inside: [Pair] { pairs.filter(\.sharesNode) }
  private var between: [Pair] { pairs.filter { !$0.sharesNode } }

  /// Returns the median and both ends: `12 (10 to 31)`.
  private static func spread(_ values: [Double]) -> String {
    let short = { ($0 as Double) < 100 ? Figures.significant($0, 3) : Figures.fixed($0, 0) }
    guard let least = values.min(), let most = values.max(), values.count > 1 else { return values.map(short).joined() }
    return "\(short(values.median)) (\(short(least)) to \(short(most)))"
  }

  /// The least GB/s of ranks that communicate through shared memory.
  private static let sharedMemory = 0.5
  /// The least GB/s of a network of 2.5 Gb/s; with less, the gradients of 40 M parameters take a second.
  private static let network = 0.3
  /// The highest latency in microseconds that is not a finding; TCP within a room takes a tenth.
  private static let slowLatency = 500.0
  /// The seconds by which clocks may differ before logs and the times of files mislead.
  private static let clockTolerance = 1.0

  /// Returns the problems, each with its solution.
  func findings(_ reports: [RankReport]) -> [String] {
    var found: [String] = []
    func median(_ pairs: [Pair], _ value: (Pair) -> Double) -> Double? { pairs.isEmpty ? nil : pairs.map(value).median }
    func place(_ rank: Int) -> String { "rank \(rank) on \(reports[rank].hostname)" }
    if let rate = median(inside, \.bandwidth), rate < Self.sharedMemory {
      found.append(
        "ranks of one node exchange \(Figures.significant(rate, 2)) GB/s: shared memory is not in use, or cores are"
          + " overcommitted; let OMPI_MCA_btl name vader (self,vader,tcp), and start no more ranks than cores")
    }
    if let rate = median(between, \.bandwidth), rate < Self.network {
      found.append(
        "nodes exchange \(Figures.significant(rate, 2)) GB/s, and gradients will wait for the network; if there is a"
          + " faster one, name it (mpirun --mca btl_tcp_if_include eth1), else see what it costs with kinship plan")
    }
    if let latency = median(between, \.latency), latency > Self.slowLatency {
      found.append(
        "a message between nodes takes \(Figures.fixed(latency, 0)) µs; check that mpirun uses the right"
          + " network (--mca btl_tcp_if_include, --mca oob_tcp_if_include)")
    }
    for those in [inside, between] {
      guard let rate = median(those, \.bandwidth) else { continue }
      let slow = those.filter { $0.bandwidth < rate / 3 }.sorted { $0.bandwidth < $1.bandwidth }
      guard !slow.isEmpty else { continue }
      let named = slow.prefix(3).map {
        "\(place($0.first)) and \(place($0.second)) \(Figures.significant($0.bandwidth, 2))"
      }
      found.append(
        "\(slow.count == 1 ? "a pair exchanges" : "\(slow.count) pairs exchange") less than a third of the usual"
          + " \(Figures.significant(rate, 2)) GB/s (\(named.joined(separator: ", "))), and every step waits for the"
          + " slowest; check the cables and ports of those nodes, or leave them out of the host file")
    }
    for clock in clocks where abs(clock.offset) > Self.clockTolerance + clock.uncertainty {
      found.append(
        "the clock of \(place(clock.rank)) is \(Figures.significant(abs(clock.offset), 3)) s"
          + " \(clock.offset > 0 ? "ahead of" : "behind") that of rank 0; start chrony or ntpd there")
    }
    return found
  }
}

/// Messages that travel back and forth between two ranks.
struct PingPong {
  /// One message and its answer, and by how many seconds the other's clock was ahead if it answered halfway.
  typealias Round = (seconds: Double, offset: Double)

  /// The rounds without the first two, which pay for the connection.
  private var rounds: [Round] = []
  /// The lower quartile of the rounds' seconds, which other work on the cores has hardly disturbed.
  private var typical: Double { rounds.map(\.seconds).sorted()[rounds.count / 4] }
  var quickest: Round { rounds.min { $0.seconds < $1.seconds } ?? (seconds: .infinity, offset: .nan) }

  /// Measures the link between two ranks, which both call it. The first of them gets the result, all others nil.
  static func link(
    _ first: Int, _ second: Int, seconds: (short: Double, long: Double), over ranks: Communicator
  ) throws -> Link? {
    if ranks.rank == first {
      let short = try begin(with: second, bytes: 16, seconds: seconds.short, over: ranks).typical
      let long = try begin(with: second, bytes: 1 << 20, seconds: seconds.long, over: ranks).typical
      return Link(latency: short / 2, bandwidth: Double(1 << 20) / (long / 2))
    }
    if ranks.rank == second { for bytes in [16, 1 << 20] { try answer(first, bytes: bytes, over: ranks) } }
    return nil
  }

  /// Exchanges messages of `bytes`, at least 16, with a rank that calls `answer`, for about `seconds`. The first byte
  /// tells whether more rounds follow.
  static func begin(with peer: Int, bytes: Int, seconds: Double, over ranks: Communicator) throws -> PingPong {
    var message = [UInt8](repeating: 1, count: bytes)
    var result = PingPong()
    let start = ContinuousClock.now
    for round in 0... {
      let isLast = round >= 4 && (ContinuousClock.now - start) / .seconds(1) > seconds
      message[0] = isLast ? 0 : 1
      let (sent, left) = (ContinuousClock.now, Date().timeIntervalSince1970)
      try ranks.send(&message, to: peer)
      try ranks.receive(into: &message, from: peer)
      let taken = (ContinuousClock.now - sent) / .seconds(1)
      let there = Double(bitPattern: message.little(8, at: 8))
      if round >= 2 { result.rounds.append((seconds: taken, offset: there - left - taken / 2)) }
      if isLast { break }
    }
    return result
  }

  /// Sends each message back with this rank's time in it.
  static func answer(_ peer: Int, bytes: Int, over ranks: Communicator) throws {
    var message = [UInt8](repeating: 0, count: bytes)
    repeat {
      try ranks.receive(into: &message, from: peer)
      let now = Date().timeIntervalSince1970.bitPattern
      message.replaceSubrange(8..<16, with: now.littleEndianBytes)
      try ranks.send(&message, to: peer)
    } while message[0] == 1
  }
}
