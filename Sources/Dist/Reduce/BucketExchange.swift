public import Tensor

/// Reduce-scatters gradients to the owners of the numbers, and all-gathers the values that they have updated, one
/// bucket at a time. The same collectives run in the same order with and without overlap, so the numbers are the same.
public final class BucketExchange<S: Scalar> {
  public let plan: BucketPlan
  /// The sums of the numbers that this rank owns, as `plan.ranges(of:)` end to end. On one rank they are the gradients.
  public let own: Tensor<S>
  /// True if buckets are communicated while the caller computes. It may change while nothing is under way.
  public var overlaps: Bool
  /// The bytes that this rank has received from others as `Traffic` counts them, including values still under way.
  public var received: Int { counted + (rows?.matrix.receivedBytes ?? 0) }
  public let route: BucketRoute
  private let gradients: Tensor<S>
  private let values: Tensor<S>
  private let ranks: Communicator
  private let thread: CommunicationThread?
  private let transport: BucketTransport<S>
  private let places: [Range<Int>]
  private let rows: (bucket: Int, matrix: TouchedRows<S>)?
  private var touched: [Int] = []
  private var counted = 0
  private var waiting: [Int] = []
  /// The number of the submitted all-gather, for each bucket whose values may not have arrived yet.
  private var gathering: [Int: Int] = [:]

  /// Creates an exchange, on every rank. Of `matrix`, a bucket and its rows' width, only touched rows may be reduced.
  public init(
    _ plan: BucketPlan, gradients: Tensor<S>, values: Tensor<S>, matrix: (bucket: Int, width: Int)?,
    route: BucketRoute = BucketRoute(), over ranks: Communicator, overlaps: Bool
  ) throws {
    precondition(ranks.size == plan.ranks && gradients.count == values.count)
    precondition(plan.buckets.last?.range.upperBound ?? 0 == values.count, "the plan covers the arena")
    (self.plan, self.gradients, self.values, self.overlaps) = (plan, gradients, values, overlaps)
    places = plan.buckets.map { $0.pieces[ranks.rank].count }.endToEnd
    let isAlone = ranks.size == 1
    self.route = isAlone ? BucketRoute() : route
    self.ranks = try isAlone ? ranks : ranks.duplicate(name: "buckets")
    let transport = try BucketTransport<S>(self.route, plan, over: self.ranks)
    self.transport = transport
    thread = isAlone ? nil : CommunicationThread("buckets", over: self.ranks)
    own = isAlone ? gradients : Tensor(Shape(places.last?.upperBound ?? 0))
    rows = matrix.map { bucket, width in
      (bucket, TouchedRows(width: width, pieces: plan.buckets[bucket].piecesInside, transport))
    }
  }

  // MARK: Gradients

  /// Sets the rows of the matrix that this step touches, in rising order, before its bucket is reduced.
  public func markTouched(_ rows: [Int]) {
    touched.removeAll(keepingCapacity: true)
    touched += rows
  }

  /// Starts to reduce the gradients of a bucket, which must be complete.
  public func reduce(_ bucket: Int) {
    guard let thread else { return }
    if bucket != rows?.bucket { counted += route.reductionBytes(plan.buckets[bucket], traffic, S.self) }
    guard overlaps else { return waiting.append(bucket) }
    let work = reduction(bucket)
    thread.submit { try work($0) }
  }

  /// Waits until the sums of all buckets are in `own`.
  public func finishReduction() throws {
    for bucket in waiting { try reduction(bucket)(ranks) }
    waiting = []
    if let thread { try Trace.span("wait for gradients", .wait) { try thread.wait() } }
  }

  private func reduction(_ bucket: Int) -> @Sendable (Communicator) throws -> Void {
    let (whole, own) = (gradients.slice(plan.buckets[bucket].range), own.slice(places[bucket]))
    if let rows, rows.bucket == bucket {
      return { [matrix = rows.matrix, touched] _ in
        try Trace.span("reduce bucket \(bucket), touched rows", .communication) {
          try matrix.reduce(whole, touched: touched, into: own)
        }
      }
    }
    return { [pieces = plan.buckets[bucket].piecesInside, transport] _ in
      try Trace.span("reduce bucket \(bucket)", .communication) {
        try transport.reduce(whole, into: own, pieces: pieces)
      }
    }
  }

  // MARK: Values

  /// True if `gather` rounds some values of the bucket on their way to other ranks.
  public func rounds(_ bucket: Int) -> Bool { transport.rounds(bucket) }

  /// Starts to gather the values of a bucket. This rank must have updated those that it owns, which stay as they are.
  /// With `exactly`, all ranks get the owners' very numbers, also where the route would round them.
  public func gather(_ bucket: Int, exactly: Bool = false) throws {
    guard let thread else { return }
    let pieces = plan.buckets[bucket].pieces
    counted +=
      exactly
      ? traffic.gather(pieces, stride: MemoryLayout<S>.stride)
      : route.gatheringBytes(plan.buckets[bucket], traffic, S.self)
    let work: @Sendable (Communicator) throws -> Void = { [values, transport] _ in
      try Trace.span("gather bucket \(bucket)", .communication) {
        try transport.gather(values, bucket, pieces: pieces, exactly: exactly)
      }
    }
    if overlaps { gathering[bucket] = thread.submit(work) } else { try work(ranks) }
  }

  /// Waits until the values of these buckets, or of all if nil, have arrived from all ranks.
  public func waitForValues(_ buckets: [Int]? = nil) throws {
    for bucket in buckets ?? Array(gathering.keys) {
      guard let number = gathering.removeValue(forKey: bucket), let thread else { continue }
      try Trace.span("wait for bucket \(bucket)", .wait) { try thread.wait(for: number) }
    }
  }

  private var traffic: Traffic { Traffic(rank: ranks.rank, size: ranks.size) }
}
