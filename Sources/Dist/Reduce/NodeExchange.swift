public import Settings
public import Tensor

/// The form in which gradients travel between nodes, or between ranks where an exchange does not go by nodes.
public enum WirePrecision: String, CaseIterable, Sendable, FieldValue {
  /// Unrounded.
  case fp32
  /// Rounded to bfloat16, to nearest with ties to even, which takes half the bytes. Sums are held in fp32.
  case bf16

  /// Returns the bytes of a number of type S on its way.
  public func stride<S: Scalar>(of scalar: S.Type) -> Int { self == .bf16 ? 2 : MemoryLayout<S>.stride }
}

/// Reductions and gatherings of arrays of which each rank owns a piece, in two levels: within a node, whose ranks share
/// memory, and between nodes, where the numbers of a node travel once. With ranks that are all nodes of their own it is
/// an exchange between pairs of ranks, which `wire` may round.
///
/// A sum is made in a fixed order: first each node's ranks in rising order, and then the nodes, in the order of the
/// ranks that send their sums. The same map and ranges give the same bits.
///
/// Every step is a `Communicator.allToAll` or `allGather`, in which a rank has one message under way in each direction,
/// and all ranks of a node exchange with those of one other node at a time (`ExchangeRounds`). All ranks take the same
/// steps in the same order, so that they cannot wait for each other in a circle.
public final class NodeExchange<S: Scalar>: @unchecked Sendable {
  public let map: NodeMap
  let ranks: Communicator
  /// The ranks of this node; nil if all nodes have one rank.
  let node: Communicator?
  /// For each rank of this node, the owners whose pieces pass through it, in rising order.
  let lanes: [[Int]]
  /// The rounds in which nodes exchange.
  let order: ExchangeRounds
  /// The ranks through which this rank's own pieces pass, in rising order.
  let relays: [Int]
  /// The largest number of elements that are under way at once; longer arrays take several rounds.
  private let most: Int
  private let (sent, received, arrived, gathered) = (Buffer<S>(), Buffer<S>(), Buffer<S>(), Buffer<S>())
  private let (roundedSent, roundedArrived, roundedGathered) = (Buffer<UInt16>(), Buffer<UInt16>(), Buffer<UInt16>())

  /// The largest number of elements under way at once, which fit the caches as those of `Communicator.reduceScatter`.
  static var roundElements: Int { 1 << 20 }

  /// Every rank must call it. `ranks` must not be used elsewhere while an exchange is under way.
  public init(_ map: NodeMap, over ranks: Communicator) throws {
    precondition(map.ranks == ranks.size, "a map of \(map.ranks) ranks for \(ranks.size)")
    (self.map, self.ranks) = (map, ranks)
    let own = map.node[ranks.rank]
    node = try map.nodes.count < map.ranks ? ranks.split(group: own) : nil
    lanes = map.nodes[own].map(map.owners(through:))
    relays = map.relays(of: ranks.rank)
    order = ExchangeRounds(rank: ranks.rank, over: map)
    most = min(ranks.limit, Self.roundElements)
  }

  /// The bytes that this rank has received from others through this exchange's communicators.
  public var receivedBytes: Int { ranks.ledger.received + (node?.ledger.received ?? 0) }

  /// This rank's place among the ranks of its node.
  var place: Int { map.place[ranks.rank] }
  /// The owners whose pieces pass through this rank.
  var lane: [Int] { lanes[place] }

  /// Returns a block for each rank, end to end: of these lengths for some ranks, in rising order, and empty for others.
  func blocks(_ some: [Int], _ lengths: [Int]) -> [Range<Int>] {
    var all = [Int](repeating: 0, count: map.ranks)
    for (rank, length) in zip(some, lengths) { all[rank] = length }
    return all.endToEnd
  }

  /// Calls `body` with the next part of each range, until all parts are done.
  private func forEachRound(_ ranges: [Range<Int>], _ body: ([Range<Int>]) throws -> Void) rethrows {
    let longest = ranges.map(\.count).max() ?? 0
    let rounds = max((ranges.total + most - 1) / most, 1)
    let share = max((longest + rounds - 1) / rounds, 1)
    for start in stride(from: 0, to: longest, by: share) {
      try body(
        ranges.map { range in
          let begin = min(range.lowerBound + start, range.upperBound)
          return begin..<min(begin + share, range.upperBound)
        })
    }
  }
}

extension NodeExchange {
  /// Sums `whole` over the ranks and gives each rank its own range of the sum, in `own`. Within a node sums are exact
  /// as those of S; on the way between nodes they are in `wire`. What a rank owes itself is never rounded.
  public func reduceScatter(
    _ whole: Tensor<S>, into own: Tensor<S>, ranges: [Range<Int>], wire: WirePrecision
  ) throws {
    let range = ranges[ranks.rank]
    precondition(ranges.count == map.ranks && own.count == range.count, "\(own.shape) for \(range)")
    try forEachRound(ranges) { parts in
      let target = own.slice(parts[ranks.rank].moved(by: -range.lowerBound))
      try reduceRound(whole, parts, into: target, wire)
    }
  }

  private func reduceRound(
    _ whole: Tensor<S>, _ parts: [Range<Int>], into own: Tensor<S>, _ wire: WirePrecision
  ) throws {
    let sums = try nodeSums(whole, parts)
    let outward = blocks(lane, lane.map { parts[$0].count })
    let inward = blocks(relays, relays.map { _ in own.count })
    func block(_ number: Int) -> Range<Int> { number * own.count..<(number + 1) * own.count }
    fill(own, 0)
    switch wire {
    case .fp32:
      let all = arrived.tensor(Shape(relays.count * own.count))
      try ranks.allToAll(sums, outward, into: all, inward, in: order)
      for number in relays.indices { add(all.slice(block(number)), to: own) }
    case .bf16:
      let out = roundedSent.tensor(Shape(sums.count))
      round(sums, into: out)
      let all = roundedArrived.tensor(Shape(relays.count * own.count))
      try ranks.allToAll(out, outward, into: all, inward, in: order)
      for (number, relay) in relays.enumerated() {
        if relay == ranks.rank {
          add(sums.slice(outward[relay]), to: own)
        } else {
          add(all.slice(block(number)), to: own)
        }
      }
    }
  }

  /// Returns this node's sums of the parts that pass through this rank, in the order of their owners.
  private func nodeSums(_ whole: Tensor<S>, _ parts: [Range<Int>]) throws -> Tensor<S> {
    let out = sent.tensor(Shape(parts.total))
    var filled = 0
    for owner in lanes.joined() {
      let part = parts[owner]
      copy(whole.slice(part), into: out.slice(filled..<filled + part.count))
      filled += part.count
    }
    guard let node else { return out }
    let counts = lanes.map { lane in lane.reduce(0) { $0 + parts[$1].count } }
    let count = counts[node.rank]
    let all = received.tensor(Shape(node.size * count))
    try node.allToAll(out, counts: counts, into: all, lengths: [Int](repeating: count, count: node.size))
    let sums = all.slice(0..<count)
    for other in 1..<node.size { add(all.slice(other * count..<(other + 1) * count), to: sums) }
    return sums
  }
}

extension NodeExchange {
  /// Gathers parts of a vector in place: `ranges[r]` of rank r overwrites that range on all other ranks. Each part is
  /// sent to one rank of every node, and copied within the nodes.
  public func allGather(_ whole: Tensor<S>, ranges: [Range<Int>]) throws {
    try forEachRound(ranges) { try gatherRound(whole, $0, gathered) }
  }

  /// Does the same for numbers of two bytes.
  func allGather(_ whole: Tensor<UInt16>, ranges: [Range<Int>]) throws {
    try forEachRound(ranges) { try gatherRound(whole, $0, roundedGathered) }
  }

  private func gatherRound<Element: BitwiseCopyable>(
    _ whole: Tensor<Element>, _ parts: [Range<Int>], _ buffer: Buffer<Element>
  ) throws {
    // The parts as they lie in the buffer: those of each relay of this node side by side.
    var places = [Range<Int>](repeating: 0..<0, count: map.ranks)
    var filled = 0
    let blocks = lanes.map { lane in
      let start = filled
      for owner in lane {
        places[owner] = filled..<filled + parts[owner].count
        filled += parts[owner].count
      }
      return start..<filled
    }
    let all = buffer.tensor(Shape(filled))
    var out = [Range<Int>](repeating: 0..<0, count: map.ranks)
    for relay in relays { out[relay] = parts[ranks.rank] }
    var into = [Range<Int>](repeating: 0..<0, count: map.ranks)
    for owner in lane { into[owner] = places[owner] }
    try ranks.allToAll(whole, out, into: all, into, in: order)
    if let node { try node.allGather(partsOf: all, ranges: blocks) }
    for owner in 0..<map.ranks where owner != ranks.rank {
      copyBits(all.slice(places[owner]), into: whole.slice(parts[owner]))
    }
  }
}

extension Traffic {
  /// Returns the bytes of a reduction by `NodeExchange`: within the node this rank's share of the work, once from each
  /// other rank; then this rank's range, once from each other node. Gathering takes the bytes of `gather`, for every
  /// number arrives once.
  public func reduceScatter(_ ranges: [Range<Int>], stride: Int, over map: NodeMap, sentAs sentStride: Int) -> Int {
    let within = map.nodes[map.node[rank]].count - 1
    let relayed = within == 0 ? 0 : map.owners(through: rank).reduce(0) { $0 + ranges[$1].count }
    return within * relayed * stride + (map.nodes.count - 1) * ranges[rank].count * sentStride
  }
}
