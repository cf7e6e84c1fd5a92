import Dist
import Tensor

/// Collectives on numbers that differ by rank and index. Each rank prints `rank: values`. The first argument is the
/// number of elements or rows, and an optional second one is the limit of a message.
let collectiveProbes: [String: Scenario] = [
  "sum-float": { try sumTensor(Float.self, $0, $1) },
  "sum-double": { try sumTensor(Double.self, $0, $1) },
  "sum-arrays": { communicator, arguments in
    let ranks = try limited(communicator, arguments)
    var doubles = (0..<count(arguments)).map { Double(value(ranks.rank, $0)) + 0.25 }
    var integers = (0..<count(arguments)).map { value(ranks.rank, $0) + 1 << 40 }
    var largest = (0..<count(arguments)).map { Double(value((ranks.rank + $0) % ranks.size, $0)) }
    try ranks.allReduce(&doubles)
    try ranks.allReduce(&integers)
    try ranks.allReduce(&largest, .maximum)
    say("\(ranks.rank): \(doubles) \(integers) \(largest)")
    return 0
  },
  "gather-rows": { try gatherRows($0, $1, inPlace: false) },
  "gather-rows-in-place": { try gatherRows($0, $1, inPlace: true) },
  "gather-vector": { communicator, arguments in
    let ranks = try limited(communicator, arguments)
    let own = ranks.slice(of: count(arguments))
    let all = Tensor<Double>(Shape(count(arguments)))
    try ranks.allGather(vector: Tensor(Shape(own.count), own.map { Double(value(ranks.rank, $0)) }), into: all)
    say("\(ranks.rank): \(all.array)")
    return 0
  },
  "gather-slices": { communicator, arguments in
    // The slices are in reverse order of ranks, and in front of each is one element that belongs to no rank.
    let ranks = try limited(communicator, arguments)
    let widths = (0..<ranks.size).map { count(arguments) * $0 }
    let ranges = (0..<ranks.size).map { rank in
      let start = widths[(rank + 1)...].reduce(0, +) + ranks.size - rank
      return start..<start + widths[rank]
    }
    let all = Tensor<Float>(Shape(widths.reduce(ranks.size, +)))
    for place in 0..<all.count { all[place] = -1 }
    for place in ranges[ranks.rank] { all[place] = Float(value(ranks.rank, place)) }
    try ranks.allGather(partsOf: all, ranges: ranges)
    say("\(ranks.rank): \(all.array)")
    return 0
  },
  "reduce-scatter": { communicator, arguments in
    // Rank r owns r·n elements, so the first rank owns none and the last one most.
    let ranks = try limited(communicator, arguments)
    var ranges: [Range<Int>] = []
    for rank in 0..<ranks.size {
      let start = ranges.last?.upperBound ?? 0
      ranges.append(start..<start + rank * count(arguments))
    }
    let total = ranges[ranks.size - 1].upperBound
    let whole = Tensor<Double>(Shape(total), (0..<total).map { Double(value(ranks.rank, $0)) })
    let own = Tensor<Double>(Shape(ranges[ranks.rank].count))
    try ranks.reduceScatter(whole, into: own, ranges: ranges)
    let kept = whole.array == (0..<total).map { Double(value(ranks.rank, $0)) }
    say("\(ranks.rank): \(own.array) \(kept)")
    return 0
  },
  "broadcast": { communicator, arguments in
    let ranks = try limited(communicator, arguments)
    let root = ranks.size - 1
    let tensor = Tensor<Float>(
      Shape(count(arguments)), (0..<count(arguments)).map { Float(value(ranks.rank, $0)) })
    var bytes = ranks.rank == root ? (0..<count(arguments)).map { UInt8($0 % 251) } : [7]
    try ranks.broadcast(tensor, root: root)
    try ranks.broadcast(&bytes, root: root)
    say("\(ranks.rank): \(tensor.array) \(bytes)")
    return 0
  },
  "all-gather": { communicator, arguments in
    let ranks = try limited(communicator, arguments)
    let gathered = try ranks.allGather([UInt8](repeating: UInt8(ranks.rank + 1), count: ranks.rank * count(arguments)))
    say("\(ranks.rank): \(gathered)")
    return 0
  },
  "gather-on-root": { communicator, arguments in
    let ranks = try limited(communicator, arguments)
    let gathered = try ranks.gather([UInt8](repeating: UInt8(ranks.rank + 1), count: ranks.rank * count(arguments)))
    // Rank r has r rows of two columns; two tiles, and the same rows in other shares.
    let ranges = (0..<ranks.size).map { $0 * ($0 - 1) / 2..<$0 * ($0 + 1) / 2 }
    let own = ranges[ranks.rank]
    let local = Tensor<Float>(Shape(own.count, 2), own.flatMap { [Float(2 * $0), Float(2 * $0 + 1)] })
    let rows = DistributedRows(local, ranges: ranges, over: ranks)
    let middle = rows.count / 2
    let tiles = try [0..<middle, middle..<rows.count].map { try rows.gather($0)?.array ?? [] }
    let others = try rows.redistributed(ranks.slices(of: rows.count))
    let all = Tensor<Float>(Shape(rows.count, 2))
    try others.fill(all, with: 0..<rows.count)
    let part = Tensor<Float>(Shape(rows.count - middle, 2))
    try others.fill(part, with: middle..<rows.count)
    say("\(ranks.rank): \(gathered ?? []) \(tiles) \(all.array) \(part.array)")
    return 0
  },
  "all-to-all": { communicator, arguments in
    // Rank r sends n·((r + 2q) mod 3) elements to rank q, so some pairs exchange nothing.
    let ranks = try limited(communicator, arguments)
    func length(_ from: Int, _ to: Int) -> Int { count(arguments) * ((from + 2 * to) % 3) }
    let counts = (0..<ranks.size).map { length(ranks.rank, $0) }
    let lengths = (0..<ranks.size).map { length($0, ranks.rank) }
    let total = counts.reduce(0, +)
    let sent = Tensor<Float>(Shape(total), (0..<total).map { Float(value(ranks.rank, $0)) })
    let received = Tensor<Float>(Shape(lengths.reduce(0, +)))
    try ranks.allToAll(sent, counts: counts, into: received, lengths: lengths)
    say("\(ranks.rank): \(received.array)")
    return 0
  },
  "received": { communicator, arguments in
    let ranks = try limited(communicator, arguments)
    let n = count(arguments)
    var lines: [String] = []
    func measure(_ name: String, _ body: () throws -> Void) rethrows {
      let before = ranks.ledger.received
      try body()
      lines.append("\(name) \(ranks.ledger.received - before)")
    }
    let whole = Tensor<Float>(Shape(n))
    let ranges = ranks.slices(of: n)
    try measure("all-reduce") { try ranks.allReduce(whole) }
    try measure("scatter") {
      try ranks.reduceScatter(whole, into: Tensor(Shape(ranges[ranks.rank].count)), ranges: ranges)
    }
    try measure("slices") { try ranks.allGather(partsOf: whole, ranges: ranges) }
    try measure("numbers") {
      var numbers = [1.0, 2, 3]
      try ranks.allReduce(&numbers, .maximum)
    }
    try measure("broadcast") { try ranks.broadcast(whole) }
    try measure("barrier") { try ranks.barrier() }
    say("\(ranks.rank): \(lines.joined(separator: ", "))")
    return 0
  },
  "place": { communicator, _ in
    try communicator.barrier()
    let copy = try communicator.duplicate()
    try copy.barrier()
    try copy.barrier()
    let places = "rank \(communicator.rank)/\(communicator.size) node \(communicator.nodeRank)/\(communicator.nodeSize)"
    say("\(places) ledgers \(communicator.ledger.last), \(copy.ledger.last) running \(copy.ledger.last.running)")
    return 0
  },
]

/// Returns element `place` of rank `rank`, which is exact in a Float.
private func value(_ rank: Int, _ place: Int) -> Int { (rank + 1) * 1000 + place }

private func count(_ arguments: [String]) -> Int { Int(arguments[0])! }

/// Returns a communicator with the limit of a message in the second argument.
private func limited(_ communicator: Communicator, _ arguments: [String]) throws -> Communicator {
  arguments.count > 1 ? try communicator.duplicate(limit: Int(arguments[1])!) : communicator
}

private func sumTensor<S: Scalar>(_: S.Type, _ communicator: Communicator, _ arguments: [String]) throws -> Int32 {
  let ranks = try limited(communicator, arguments)
  let tensor = Tensor<S>(Shape(count(arguments)), (0..<count(arguments)).map { S(value(ranks.rank, $0)) })
  try ranks.allReduce(tensor)
  say("\(ranks.rank): \(tensor.array)")
  return 0
}

/// Gathers rows of three columns. Element j of row i is value(rank, 3i + j).
private func gatherRows(_ communicator: Communicator, _ arguments: [String], inPlace: Bool) throws -> Int32 {
  let ranks = try limited(communicator, arguments)
  let own = ranks.slice(of: count(arguments))
  let all = Tensor<Float>(Shape(count(arguments), 3))
  let local = inPlace ? all.rows(own) : Tensor<Float>(Shape(own.count, 3))
  for place in 0..<local.count { local[place] = Float(value(ranks.rank, own.lowerBound * 3 + place)) }
  try ranks.allGather(rows: local, into: all)
  say("\(ranks.rank): \(all.array)")
  return 0
}
