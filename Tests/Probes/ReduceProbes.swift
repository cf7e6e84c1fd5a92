import Dist
import Tensor

/// The exchange of gradients and values between ranks. An additional last argument is the limit of a message.
let reduceProbes: [String: Scenario] = [
  /// Runs several steps of a plan with a matrix in it. Argument: `together` to overlap, or `apart`.
  "buckets": { communicator, arguments in
    let ranks = try limited(communicator, arguments.dropFirst().first)
    let parts = [0..<48, 48..<208, 208..<240, 240..<256, 256..<416].map {
      BucketPlan.Part($0, isAlone: $0.lowerBound == 48)
    }
    let plan = BucketPlan(parts, ranks: ranks.size, size: 64)
    let (gradients, values) = (Tensor<Double>(Shape(416)), Tensor<Double>(Shape(416)))
    let matrix = plan.buckets.firstIndex { $0.range.lowerBound == 48 }.map { (bucket: $0, width: 20) }
    let exchange = try BucketExchange(
      plan, gradients: gradients, values: values, matrix: matrix, over: ranks, overlaps: arguments[0] == "together")
    let owned = plan.ranges(of: ranks.rank)
    var areSums = true
    for step in 1...4 {
      // Rank r has touched row r and the last of the matrix's eight rows.
      let touched = Array(Set([ranks.rank, 7])).sorted()
      func gradient(_ rank: Int, _ place: Int) -> Double {
        let isOff = (48..<208).contains(place) && ![rank, 7].contains((place - 48) / 20)
        return isOff ? 0 : Double((rank + 1) * (place + step))
      }
      for place in 0..<416 { gradients[place] = gradient(ranks.rank, place) }
      exchange.markTouched(touched)
      for bucket in plan.buckets.indices.reversed() { exchange.reduce(bucket) }
      try exchange.finishReduction()
      for (index, place) in owned.joined().enumerated() {
        let sum = (0..<ranks.size).reduce(0) { $0 + gradient($1, place) }
        areSums = areSums && exchange.own[index] == sum
        values[place] += sum
      }
      for bucket in plan.buckets.indices { try exchange.gather(bucket) }
      try exchange.waitForValues([0])
      try exchange.waitForValues()
    }
    let wanted = (0..<416).map { place in
      (1...4).reduce(0.0) { sum, step in
        sum
          + (0..<ranks.size).reduce(0) { sum, rank in
            let isOff = (48..<208).contains(place) && ![rank, 7].contains((place - 48) / 20)
            return isOff ? sum : sum + Double((rank + 1) * (place + step))
          }
      }
    }
    say("\(ranks.rank): \(exchange.received) bytes, sums \(areSums) values \(values.array == wanted)")
    return 0
  },
  /// Reduces a matrix alone. Argument: the number of its 40 rows that each rank touches. Some of these rows are shared
  /// and others are not; rank 1 touches none unless all ranks touch all rows.
  "rows": { communicator, arguments in
    let ranks = try limited(communicator, arguments.dropFirst().first)
    guard let count = arguments.first.flatMap(Int.init) else { return 64 }
    func touched(_ rank: Int) -> [Int] {
      if rank == 1, count < 40 { return [] }
      return Set((0..<count).map { ($0 * 7 + (count < 40 && $0 > 0 ? rank * 3 : 0)) % 40 }).sorted()
    }
    // 200 numbers, followed by a gap.
    let plan = BucketPlan([.init(0..<208, isAlone: true)], ranks: ranks.size, size: 1)
    func number(_ rank: Int, _ place: Int) -> Float { Float((rank + 1) * 1000 + place) }
    let gradients = Tensor<Float>(Shape(208))
    for row in touched(ranks.rank) {
      for place in row * 5..<row * 5 + 5 { gradients[place] = number(ranks.rank, place) }
    }
    let exchange = try BucketExchange(
      plan, gradients: gradients, values: Tensor<Float>(Shape(208)), matrix: (0, 5), over: ranks, overlaps: true)
    exchange.markTouched(touched(ranks.rank))
    exchange.reduce(0)
    try exchange.finishReduction()
    let wanted = plan.ranges(of: ranks.rank).joined().map { place in
      (0..<ranks.size).reduce(Float(0)) { touched($1).contains(place / 5) ? $0 + number($1, place) : $0 }
    }
    let traffic = Traffic(rank: ranks.rank, size: ranks.size)
    let pieces = plan.buckets[0].pieces
    let most =
      ranks.size == 1
      ? 0 : traffic.touchedRows((0..<ranks.size).map { touched($0).count }, width: 5, pieces: pieces, Float.self)
    say(
      "\(ranks.rank): exact \(exchange.own.array == wanted) received \(exchange.received) at most \(most) dense "
        + "\(traffic.reduceScatter(pieces, stride: 4))")
    return 0
  },
  /// One bit of one number differs on the ranks in the arguments.
  "replicas": { communicator, arguments in
    let values = Tensor<Float>(Shape(1000), (0..<1000).map { Float($0) })
    if arguments.contains("\(communicator.rank)") { values[517] = Float(bitPattern: values[517].bitPattern ^ 1) }
    try communicator.requireSame(hash: bitHash(values), after: 7)
    return 0
  },
]

/// Returns a communicator with the given limit of a message.
private func limited(_ communicator: Communicator, _ limit: String?) throws -> Communicator {
  try limit.flatMap(Int.init).map { try communicator.duplicate(limit: $0) } ?? communicator
}
