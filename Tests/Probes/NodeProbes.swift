import Dist
import Tensor

/// Exchanges in two levels over made-up nodes, compared with plain sums in the same order. The first arguments are the
/// scalar (`float` or `double`), the form on the wire, and the numbers of ranks on each node (`1,2`; `-`: one level).
let nodeProbes: [String: Scenario] = [
  /// Reduces and gathers arrays. Further arguments: their numbers of elements (`0,1,103`), and an optional limit of a
  /// message.
  "node-exchange": { communicator, arguments in
    arguments[0] == "double"
      ? try exchange(Double.self, communicator, arguments) : try exchange(Float.self, communicator, arguments)
  },
  /// Runs steps of a plan with a matrix and with values of which some may be rounded. Further arguments: `together` to
  /// overlap, or `apart`; and an optional limit of a message.
  "node-buckets": { communicator, arguments in
    arguments[0] == "double"
      ? try buckets(Double.self, communicator, arguments) : try buckets(Float.self, communicator, arguments)
  },
]

private func limited(_ communicator: Communicator, _ limit: String?) throws -> Communicator {
  try limit.flatMap(Int.init).map { try communicator.duplicate(limit: $0) } ?? communicator
}

/// The plain form of an exchange: all ranks' numbers are known, and sums are loops.
private struct PlainSums<S: Scalar> {
  let wire: WirePrecision
  /// The ranks of each node.
  let nodes: [[Int]]

  /// - Parameter text: the numbers of ranks on each node, of which the last has the rest; `-`: each rank is one.
  init(_ text: String, _ wire: WirePrecision, ranks: Int) {
    self.wire = wire
    var (nodes, first): ([[Int]], Int) = ([], 0)
    for size in text == "-" ? Array(repeating: 1, count: ranks) : text.split(separator: ",").compactMap({ Int($0) }) {
      nodes.append(Array(first..<min(first + size, ranks)))
      first += size
    }
    self.nodes = nodes
  }

  var firstRanks: [Int] { nodes.flatMap { node in node.map { _ in node[0] } } }

  /// Returns x as it arrives on another rank, by way of the nearer of its two neighbours in bfloat16.
  func arrived(_ x: S) -> S { wire == .fp32 ? x : Self.rounded(x) }

  static func rounded(_ x: S) -> S {
    let x = Float(x)
    let low = Float(bitPattern: x.bitPattern & 0xFFFF_0000)
    let high = Float(bitPattern: low.bitPattern &+ 0x1_0000)
    let (below, above) = (abs(Double(x) - Double(low)), abs(Double(high) - Double(x)))
    let isLow = below == above ? low.bitPattern & 0x1_0000 == 0 : below < above
    return S(isLow ? low : high)
  }

  /// Returns the sum that an owner gets of one number of each rank.
  func sum(_ numbers: [S], owner: Int) -> S {
    let own = nodes.firstIndex { $0.contains(owner) } ?? 0
    let place = nodes[own].firstIndex(of: owner) ?? 0
    // Nodes send through the ranks in the owner's place, and their sums are added in the order of these ranks.
    let senders = nodes.indices.map { (node: $0, rank: nodes[$0][place % nodes[$0].count]) }
    return senders.sorted { $0.rank < $1.rank }.reduce(0) { total, sender in
      let ranks = nodes[sender.node]
      let part = ranks.dropFirst().reduce(numbers[ranks[0]]) { $0 + numbers[$1] }
      return total + (sender.node == own ? part : arrived(part))
    }
  }
}

/// Returns numbers of a rank that are not exact in bfloat16, and whose sums are not exact either.
private func numbers<S: Scalar>(_ rank: Int, _ count: Int, step: Int = 0) -> [S] {
  var random = KeyedRandom(seed: UInt64(step), purpose: "numbers", UInt64(rank))
  return (0..<count).map { _ in S(random.normal()) }
}

private func exchange<S: Scalar>(_: S.Type, _ communicator: Communicator, _ arguments: [String]) throws -> Int32 {
  let ranks = try limited(communicator, arguments.dropFirst(4).first)
  let wire = WirePrecision(rawValue: arguments[1])!
  let plain = PlainSums<S>(arguments[2], wire, ranks: ranks.size)
  let map = NodeMap(firstRanks: plain.firstRanks)
  let exchange = try NodeExchange<S>(map, over: ranks.duplicate())
  for count in arguments[3].split(separator: ",").compactMap({ Int($0) }) {
    try run(exchange, map, plain, count, over: ranks)
  }
  return 0
}

private func run<S: Scalar>(
  _ exchange: NodeExchange<S>, _ map: NodeMap, _ plain: PlainSums<S>, _ count: Int, over ranks: Communicator
) throws {
  let wire = plain.wire
  let (ranges, traffic) = (ranks.slices(of: count), Traffic(rank: ranks.rank, size: ranks.size))
  let all: [[S]] = (0..<ranks.size).map { numbers($0, count) }
  let (whole, own) = (Tensor<S>(Shape(count), all[ranks.rank]), Tensor<S>(Shape(ranges[ranks.rank].count)))

  var before = exchange.receivedBytes
  try exchange.reduceScatter(whole, into: own, ranges: ranges, wire: wire)
  let reduced = exchange.receivedBytes - before
  let sums = (0..<count).map { place in
    plain.sum(all.map { $0[place] }, owner: ranges.firstIndex { $0.contains(place) } ?? 0)
  }
  let areSums = own.array == Array(sums[ranges[ranks.rank]]) && whole.array == all[ranks.rank]

  before = exchange.receivedBytes
  fill(whole, 0)
  copy(own, into: whole.slice(ranges[ranks.rank]))
  try exchange.allGather(whole, ranges: ranges)
  let gathered = exchange.receivedBytes - before
  let stride = MemoryLayout<S>.stride
  let areCounted =
    reduced == traffic.reduceScatter(ranges, stride: stride, over: map, sentAs: wire.stride(of: S.self))
    && gathered == traffic.gather(ranges, stride: stride)
  say(
    "\(ranks.rank) \(count): sums \(areSums) values \(whole.array == sums) counted \(areCounted) reduced \(reduced) "
      + "gathered \(gathered)")
}

private func buckets<S: Scalar>(_: S.Type, _ communicator: Communicator, _ arguments: [String]) throws -> Int32 {
  let ranks = try limited(communicator, arguments.dropFirst(4).first)
  let wire = WirePrecision(rawValue: arguments[1])!
  let plain = PlainSums<S>(arguments[2], wire, ranks: ranks.size)
  let parts = [0..<48, 48..<208, 208..<240, 240..<256, 256..<416].map {
    BucketPlan.Part($0, isAlone: $0.lowerBound == 48)
  }
  let plan = BucketPlan(parts, ranks: ranks.size, size: 64)
  let rounded: [Range<Int>] = wire == .fp32 ? [] : [0..<48, 208..<240, 256..<416]
  let route = BucketRoute(
    wire: wire, rounded: rounded, nodes: arguments[2] == "-" ? nil : NodeMap(firstRanks: plain.firstRanks))
  let (gradients, values) = (Tensor<S>(Shape(416)), Tensor<S>(Shape(416)))
  let matrix = plan.buckets.firstIndex { $0.range.lowerBound == 48 }.map { (bucket: $0, width: 20) }
  let exchange = try BucketExchange(
    plan, gradients: gradients, values: values, matrix: matrix, route: route, over: ranks,
    overlaps: arguments[3] == "together")
  let owners = (0..<416).map { place in
    plan.buckets.compactMap { $0.pieces.firstIndex { $0.contains(place) } }.first ?? 0
  }
  var areSums = true
  var (areValues, areExact) = (true, true)
  for step in 1...3 {
    // Rank r has touched row r of the matrix's eight rows and the last.
    let all: [[S]] = (0..<ranks.size).map { rank in
      var all: [S] = numbers(rank, 416, step: step)
      for place in 48..<208 where ![rank, 7].contains((place - 48) / 20) { all[place] = 0 }
      return all
    }
    copy(Tensor(Shape(416), all[ranks.rank]), into: gradients)
    exchange.markTouched(Array(Set([ranks.rank, 7])).sorted())
    for bucket in plan.buckets.indices.reversed() { exchange.reduce(bucket) }
    try exchange.finishReduction()
    // Rows are sent from rank to rank, and added in the order of the ranks.
    let rows = PlainSums<S>("-", wire, ranks: ranks.size)
    let sums = (0..<416).map { place in
      ((48..<208).contains(place) ? rows : plain).sum(all.map { $0[place] }, owner: owners[place])
    }
    let owned = plan.ranges(of: ranks.rank).joined()
    areSums = areSums && exchange.own.array == owned.map { sums[$0] }
    for (index, place) in owned.enumerated() { values[place] = exchange.own[index] }
    for bucket in plan.buckets.indices { try exchange.gather(bucket) }
    try exchange.waitForValues([0])
    try exchange.waitForValues()
    let arrived = (0..<416).map { place in
      let isRounded = owners[place] != ranks.rank && rounded.contains { $0.contains(place) }
      return isRounded ? PlainSums<S>.rounded(sums[place]) : sums[place]
    }
    areValues = areValues && values.array == arrived
    if step == 2 {
      for bucket in plan.buckets.indices where exchange.rounds(bucket) { try exchange.gather(bucket, exactly: true) }
      try exchange.waitForValues()
      areExact = values.array == sums
    }
  }
  say("\(ranks.rank): \(exchange.received) bytes, sums \(areSums) values \(areValues) exact \(areExact)")
  return 0
}
