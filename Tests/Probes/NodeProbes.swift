import Dist
import Tensor

/// Exchanges in two levels over made-up nodes, compared with plain sums in the same order. The first arguments are the
/// scalar (`float` or `double`), the form on the wire, and the numbers of ranks on each node (`1,2`; `-`: one level),
/// but for `node-rows`.
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
  /// Reduces touched rows of several matrices with both scalars and forms, in whole and in split messages. Argument:
  /// the first rank of each rank's node (`0,0,2`).
  "node-rows": { communicator, arguments in
    let firstRanks = arguments[0].split(separator: ",").compactMap { Int($0) }
    let split = try communicator.duplicate(limit: 3)
    for ranks in [communicator, split] {
      for wire in WirePrecision.allCases {
        for rows in TouchedCase.all {
          try reduce(Float.self, rows, firstRanks, wire, over: ranks)
          try reduce(Double.self, rows, firstRanks, wire, over: ranks)
        }
      }
    }
    return 0
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

  init(firstRanks: [Int], _ wire: WirePrecision) {
    self.wire = wire
    nodes = Set(firstRanks).sorted().map { first in firstRanks.indices.filter { firstRanks[$0] == first } }
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
    // Touched rows are added in the same order as all other numbers.
    let sums = (0..<416).map { place in plain.sum(all.map { $0[place] }, owner: owners[place]) }
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

/// A matrix of `count` numbers in rows of `width`, and the rows that each rank touches, in rising order.
private struct TouchedCase {
  let name: String
  let count, width: Int
  let touched: @Sendable (_ rank: Int) -> [Int]

  init(_ name: String, _ count: Int, _ width: Int, _ touched: @escaping @Sendable (_ rank: Int) -> [Int]) {
    (self.name, self.count, self.width, self.touched) = (name, count, width, touched)
  }

  /// Pieces cut rows. Some rows are shared by all ranks, others by two; one is named twice. Rank 1 may have none, and
  /// so may all but the first.
  static let all = [
    TouchedCase("few", 208, 5) { $0 == 1 ? [] : [0, 3 * $0, 3 * $0 + 3, 40] },
    TouchedCase("none", 208, 5) { _ in [] },
    TouchedCase("one rank's", 208, 5) { $0 == 0 ? [2, 40] : [] },
    TouchedCase("all", 208, 5) { _ in Array(0..<41) },
    TouchedCase("several words", 2080, 16) { Array(stride(from: $0, to: 130, by: 9)) },
    TouchedCase("narrow", 48, 1) { [$0, 40] },
    TouchedCase("ranks that own nothing", 32, 7) { [$0, 4] },
  ]
}

private func reduce<S: Scalar>(
  _: S.Type, _ rows: TouchedCase, _ firstRanks: [Int], _ wire: WirePrecision, over ranks: Communicator
) throws {
  let plan = BucketPlan([.init(0..<rows.count, isAlone: true)], ranks: ranks.size, size: 1)
  let (pieces, plain) = (plan.buckets[0].pieces, PlainSums<S>(firstRanks: firstRanks, wire))
  let all: [[S]] = (0..<ranks.size).map { rank in
    let touched = Set(rows.touched(rank))
    var all: [S] = numbers(rank, rows.count)
    for place in 0..<rows.count where !touched.contains(place / rows.width) { all[place] = 0 }
    return all
  }
  let route = BucketRoute(wire: wire, nodes: NodeMap(firstRanks: firstRanks))
  let exchange = try BucketExchange(
    plan, gradients: Tensor(Shape(rows.count), all[ranks.rank]), values: Tensor<S>(Shape(rows.count)),
    matrix: (0, rows.width), route: route, over: ranks, overlaps: true)
  func run() throws -> (hash: UInt64, received: Int) {
    let before = exchange.received
    fill(exchange.own, 7)
    exchange.markTouched(rows.touched(ranks.rank))
    exchange.reduce(0)
    try exchange.finishReduction()
    return (bitHash(exchange.own), exchange.received - before)
  }
  let first = try run()
  var (areSums, areClose) = (true, true)
  let tolerance = wire == .bf16 ? 0x1p-7 : MemoryLayout<S>.stride == 4 ? 1e-5 : 1e-10
  for (place, sum) in zip(pieces[ranks.rank], exchange.own.array) {
    let numbers = all.map { $0[place] }
    areSums = areSums && sum == plain.sum(numbers, owner: ranks.rank)
    let (plainly, size) = numbers.reduce((0.0, 0.0)) { ($0.0 + Double($1), $0.1 + abs(Double($1))) }
    areClose = areClose && abs(Double(sum) - plainly) <= tolerance * size
  }
  let again = try run()
  let counted = receivedBytes(rows, plain, pieces, by: ranks.rank)
  let touched = (0..<ranks.size).map { Set(rows.touched($0)).count }
  let most = Traffic(rank: ranks.rank, size: ranks.size).touchedRows(
    touched, width: rows.width, pieces: pieces, S.self, route)
  say(
    "\(ranks.rank) \(rows.name) \(S.self) \(wire): sums \(areSums) close \(areClose) again \(first == again) "
      + "counted \(first.received == counted) bounded \(counted <= most)")
}

/// Returns the bytes that a rank receives in two levels, counted number by number.
private func receivedBytes<S: Scalar>(
  _ rows: TouchedCase, _ plain: PlainSums<S>, _ pieces: [Range<Int>], by rank: Int
) -> Int {
  let nodes = plain.nodes
  let own = nodes.firstIndex { $0.contains(rank) } ?? 0
  let touched = pieces.indices.map { Set(rows.touched($0)) }
  let together = nodes.map { node in node.reduce(into: Set<Int>()) { $0.formUnion(touched[$1]) } }
  let (stride, sent) = (MemoryLayout<S>.stride, plain.wire.stride(of: S.self))
  // Words of 64 bits that mark rows: all of them from the ranks of the node, and those of the own piece, with a count,
  // from each other node.
  let words = ((rows.count + rows.width - 1) / rows.width + 63) / 64
  let piece = pieces[rank]
  let ownWords =
    piece.isEmpty ? 0 : (piece.upperBound - 1) / rows.width / 64 - piece.lowerBound / rows.width / 64 + 1
  var bytes = 8 * ((nodes[own].count - 1) * words + (nodes.count - 1) * (1 + ownWords))
  let counted = together.reduce(0) { $0 + $1.count } * (rows.width * sent + 8)
  guard counted < rows.count * sent * nodes.count else {
    let map = NodeMap(
      firstRanks: nodes.indices.reduce(into: pieces.map { _ in 0 }) { firsts, node in
        for rank in nodes[node] { firsts[rank] = nodes[node][0] }
      })
    return bytes
      + Traffic(rank: rank, size: pieces.count).reduceScatter(pieces, stride: stride, over: map, sentAs: sent)
  }
  for (owner, piece) in pieces.enumerated() {
    let place = nodes.compactMap { $0.firstIndex(of: owner) }[0]
    let isRelay = nodes[own][place % nodes[own].count] == rank
    for number in piece {
      let row = number / rows.width
      if isRelay { bytes += stride * nodes[own].count { $0 != rank && touched[$0].contains(row) } }
      if owner == rank { bytes += sent * nodes.indices.count { $0 != own && together[$0].contains(row) } }
    }
  }
  return bytes
}
