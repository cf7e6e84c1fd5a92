public import Tensor

/// The way that buckets take between ranks.
public struct BucketRoute: Sendable, Equatable {
  /// The form of gradients on their way.
  public var wire: WirePrecision
  /// The ranges of the arena, in rising order, whose values may arrive rounded to bfloat16: whoever reads them rounds
  /// them anyway. The rank that owns a value keeps it as it is.
  public var rounded: [Range<Int>]
  /// The nodes of an exchange in two levels; nil: there is one level, of all ranks.
  public var nodes: NodeMap?

  /// By default a route has one level and rounds nothing.
  public init(wire: WirePrecision = .fp32, rounded: [Range<Int>] = [], nodes: NodeMap? = nil) {
    (self.wire, self.rounded, self.nodes) = (wire, rounded, nodes)
  }

  /// The number of levels, 1 or 2.
  public var levels: Int { nodes == nil ? 1 : 2 }

  /// How many ranks, or nodes, send sums of all numbers.
  func senders(ranks: Int) -> Int { nodes?.nodes.count ?? ranks }

  /// Returns true if the touched rows of a matrix of `count` numbers are sent by themselves: they take fewer bytes than
  /// the matrix. `touched` is the sum over the nodes, or without levels the ranks, of the rows that each touches.
  /// A row counts for one integer more than its numbers, because each is copied by itself: if almost all are touched,
  /// the matrix goes in longer messages.
  public func sendsRows<S: Scalar>(
    touched: Int, width: Int, of count: Int, ranks: Int, _ scalar: S.Type
  ) -> Bool {
    let stride = wire.stride(of: S.self)
    return touched * (width * stride + MemoryLayout<Int>.stride) < count * stride * senders(ranks: ranks)
  }

  /// Returns the bytes in which the values of a range of the arena travel.
  public func bytes<S: Scalar>(of range: Range<Int>, _ scalar: S.Type) -> Int {
    PackedValues<S>.bytes(of: range, rounded: rounded)
  }

  /// Returns the bytes that a rank receives in the reduction of a bucket of numbers of type S.
  public func reductionBytes<S: Scalar>(_ bucket: Bucket, _ traffic: Traffic, _ scalar: S.Type) -> Int {
    let stride = wire.stride(of: S.self)
    guard let nodes else { return traffic.reduceScatter(bucket.pieces, stride: stride) }
    return traffic.reduceScatter(bucket.pieces, stride: MemoryLayout<S>.stride, over: nodes, sentAs: stride)
  }

  /// Returns the bytes that a rank receives when a bucket's values are gathered. All of them arrive once, whatever the
  /// levels.
  public func gatheringBytes<S: Scalar>(_ bucket: Bucket, _ traffic: Traffic, _ scalar: S.Type) -> Int {
    bytes(of: bucket.range, S.self) - bytes(of: bucket.pieces[traffic.rank], S.self)
  }

  /// Returns the most bytes that the buffers of an exchange take beyond those of MPI's own collectives.
  public func bufferBytes<S: Scalar>(_ plan: BucketPlan, _ scalar: S.Type) -> Int {
    guard wire != .fp32 || nodes != nil else { return 0 }
    let largest = plan.buckets.map(\.range.count).max() ?? 0
    let round = min(largest, NodeExchange<S>.roundElements) + 16 * plan.ranks
    // A rank's share of a node's work, as it is before and after it has been sent.
    let relayed = round / (nodes.map { $0.nodes.map(\.count).min() ?? 1 } ?? 1)
    let whole = (nodes == nil ? 1 : 2) * round * MemoryLayout<S>.stride
    let sums = wire == .bf16 ? 4 * relayed : relayed * MemoryLayout<S>.stride
    let someRounded = plan.buckets.filter { bucket in rounded.contains { $0.overlaps(bucket.range) } }
    let packed = someRounded.map { bytes(of: $0.range, S.self) }.max() ?? 0
    return whole + sums + packed + (nodes == nil ? 0 : round * MemoryLayout<S>.stride)
  }
}

/// The collectives by which buckets travel along a route. One thread uses it at a time.
final class BucketTransport<S: Scalar>: @unchecked Sendable {
  let route: BucketRoute
  /// The exchange over the route's nodes. Without levels, each rank counts as a node.
  let exchange: NodeExchange<S>
  private let ranks: Communicator
  /// Sums in two levels, or rounded numbers over pairs of ranks; nil: MPI's own reduction does.
  private var reducer: NodeExchange<S>? { route.nodes == nil && route.wire == .fp32 ? nil : exchange }
  /// Gathers in two levels; nil: MPI's own collective does.
  private var gatherer: NodeExchange<S>? { route.nodes == nil ? nil : exchange }
  /// For each bucket the form of its values, if some of them are rounded.
  private let packings: [PackedValues<S>?]
  private let packed = Buffer<UInt16>()

  /// Every rank must call it.
  init(_ route: BucketRoute, _ plan: BucketPlan, over ranks: Communicator) throws {
    (self.route, self.ranks) = (route, ranks)
    packings = plan.buckets.map { PackedValues($0, rounded: route.rounded) }
    exchange = try NodeExchange(route.nodes ?? NodeMap(ranks: ranks.size, ofNode: 1), over: ranks)
  }

  /// True if some of the bucket's values are rounded on their way.
  func rounds(_ bucket: Int) -> Bool { packings[bucket] != nil }

  /// Stores this rank's piece of the sum of `whole` in `own`.
  func reduce(_ whole: Tensor<S>, into own: Tensor<S>, pieces: [Range<Int>]) throws {
    guard let reducer else { return try ranks.reduceScatter(whole, into: own, ranges: pieces) }
    try reducer.reduceScatter(whole, into: own, ranges: pieces, wire: route.wire)
  }

  /// Replaces all other ranks' pieces of a bucket in the arena `values` by theirs; `exactly`: without rounding.
  func gather(_ values: Tensor<S>, _ bucket: Int, pieces: [Range<Int>], exactly: Bool) throws {
    guard !exactly, let packing = packings[bucket] else {
      if let gatherer { return try gatherer.allGather(values, ranges: pieces) }
      return try ranks.allGather(partsOf: values, ranges: pieces)
    }
    let all = packed.tensor(Shape(packing.ranges.total))
    packing.pack(values, of: ranks.rank, into: all)
    if let gatherer {
      try gatherer.allGather(all, ranges: packing.ranges)
    } else {
      try ranks.allGather(partsOf: all, ranges: packing.ranges)
    }
    for rank in 0..<ranks.size where rank != ranks.rank { packing.unpack(all, of: rank, into: values) }
  }
}
