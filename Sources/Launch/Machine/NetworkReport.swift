import Dist
import Foundation
import Tensor

/// What lies between the ranks of a job: how long messages take, how much passes, and what the clocks say.
struct NetworkReport: Sendable, Codable, Equatable {
  /// Two ranks, with nobody else talking.
  struct Pair: Sendable, Codable, Equatable {
    var first: Int
    var second: Int
    /// Whether they share a node's memory.
    var sharesNode: Bool
    /// Half a round trip of a few bytes, in microseconds: a quarter of the rounds took less.
    var latency: Double
    /// GB/s of messages of 1 MiB, one way at a time: a quarter of the rounds had more.
    var bandwidth: Double
  }

  /// All ranks at once.
  struct Collective: Sendable, Codable, Equatable {
    /// Bytes of the whole array.
    var bytes: Int
    /// The slowest rank's.
    var seconds: Double
    /// GB/s that each rank receives.
    var bandwidth: Double
  }

  /// The clock of a node beside that of rank 0.
  struct Clock: Sendable, Codable, Equatable {
    /// The rank that was asked, the first of its node.
    var rank: Int
    /// Seconds that it is ahead.
    var offset: Double
    /// Half the round trip in which it was read.
    var uncertainty: Double
  }

  var pairs: [Pair]
  /// Whether these are all pairs there are; else a ring of all ranks and as many pairs drawn at random.
  var isComplete: Bool
  var reduceScatter: Collective
  var allGather: Collective
  var clocks: [Clock]
}

extension NetworkReport {
  /// Measures, one pair after the other; nil where a rank is alone. Every rank must call it, and has the same report.
  ///
  /// - Parameter nodes: of each rank the first rank of its node.
  init?(_ nodes: [Int], over ranks: Communicator) throws {
    guard ranks.size > 1 else { return nil }
    let chosen = Self.pairs(of: ranks.size)
    var own: [Pair] = []
    for (first, second) in chosen {
      try ranks.barrier()
      if ranks.rank == first {
        let short = try PingPong.begin(with: second, bytes: 16, seconds: 0.02, over: ranks).typical
        let long = try PingPong.begin(with: second, bytes: 1 << 20, seconds: 0.06, over: ranks).typical
        own.append(
          Pair(
            first: first, second: second, sharesNode: nodes[first] == nodes[second], latency: 1e6 * short / 2,
            bandwidth: 1e-9 * Double(1 << 20) / (long / 2)))
      } else if ranks.rank == second {
        try PingPong.answer(first, bytes: 16, over: ranks)
        try PingPong.answer(first, bytes: 1 << 20, over: ranks)
      }
    }
    var clocks: [Clock] = []
    for leader in Set(nodes).sorted() where leader != 0 {
      try ranks.barrier()
      if ranks.rank == 0 {
        let best = try PingPong.begin(with: leader, bytes: 16, seconds: 0.02, over: ranks).quickest
        clocks.append(Clock(rank: leader, offset: best.offset, uncertainty: best.seconds / 2))
      } else if ranks.rank == leader {
        try PingPong.answer(0, bytes: 16, over: ranks)
      }
    }
    struct Found: Codable {
      var pairs: [Pair]
      var clocks: [Clock]
    }
    let found = try ranks.allGather([UInt8](JSONEncoder().encode(Found(pairs: own, clocks: clocks)))).map {
      try JSONDecoder().decode(Found.self, from: Data($0))
    }
    pairs = found.flatMap(\.pairs).sorted { ($0.first, $0.second) < ($1.first, $1.second) }
    isComplete = chosen.count == ranks.size * (ranks.size - 1) / 2
    self.clocks = found[0].clocks
    (reduceScatter, allGather) = try Self.collectives(over: ranks)
  }

  /// Every pair of few ranks; of many the neighbours in a ring, and as many pairs drawn at random.
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

  /// The two that a step lives on, over 16 MiB: the better of two rounds after a small one.
  private static func collectives(over ranks: Communicator) throws -> (Collective, Collective) {
    let whole = Tensor<Float>(Shape(1 << 22))
    func measure(_ body: (Tensor<Float>, [Range<Int>]) throws -> Void) throws -> Collective {
      let small = whole.slice(0..<1 << 16)
      try body(small, ranks.slices(of: small.count))
      let ranges = ranks.slices(of: whole.count)
      var seconds = Double.infinity
      for _ in 0..<2 {
        try ranks.barrier()
        var round = [0.0]
        try clock(&round[0]) { try body(whole, ranges) }
        try ranks.maximum(&round)
        seconds = min(seconds, round[0])
      }
      let bytes = 4 * whole.count
      let received = Double(bytes) * Double(ranks.size - 1) / Double(ranks.size)
      return Collective(bytes: bytes, seconds: seconds, bandwidth: 1e-9 * received / seconds)
    }
    let own = Tensor<Float>(Shape(whole.count / ranks.size + 1))
    let reduceScatter = try measure { whole, ranges in
      try ranks.reduceScatter(whole, into: own.slice(0..<ranges[ranks.rank].count), ranges: ranges)
    }
    return (reduceScatter, try measure { try ranks.gatherSlices(in: $0, ranges: $1) })
  }
}

/// Messages that go to and fro between two ranks.
struct PingPong {
  struct Round {
    var seconds: Double
    /// How far the other's clock was ahead, had its answer left in the middle of the round.
    var offset: Double
  }

  /// The first ones, which pay for the connection, are left out.
  private(set) var rounds: [Round] = []

  /// Seconds of a round trip: those that other work on the cores has not disturbed.
  var typical: Double { rounds.map(\.seconds).sorted()[rounds.count / 4] }
  var quickest: Round { rounds.min { $0.seconds < $1.seconds } ?? Round(seconds: .infinity, offset: .nan) }

  /// Rounds of `bytes`, at least 16, for about so many seconds, with a rank that calls `answer`. The first byte says
  /// whether there will be more.
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
      let there = Double(bitPattern: message[8..<16].reversed().reduce(0) { $0 << 8 | UInt64($1) })
      if round >= 2 { result.rounds.append(Round(seconds: taken, offset: there - left - taken / 2)) }
      if isLast { break }
    }
    return result
  }

  /// Sends back what comes, with this rank's time in it.
  static func answer(_ peer: Int, bytes: Int, over ranks: Communicator) throws {
    var message = [UInt8](repeating: 0, count: bytes)
    repeat {
      try ranks.receive(into: &message, from: peer)
      let now = Date().timeIntervalSince1970.bitPattern
      for byte in 0..<8 { message[8 + byte] = UInt8(truncatingIfNeeded: now >> (8 * byte)) }
      try ranks.send(&message, to: peer)
    } while message[0] == 1
  }
}
