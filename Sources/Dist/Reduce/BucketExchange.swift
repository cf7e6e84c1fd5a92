public import Tensor

/// Reduce-scatters gradients, so that each rank gets the sums of the numbers it owns, and all-gathers the values that
/// the owners have updated, both one bucket at a time.
///
/// Every rank must call the same methods for the same buckets in the same order. The same collectives run in the same
/// order with and without overlap, so the numbers are the same: on the communication thread, or on the caller's.
public final class BucketExchange<S: Scalar> {
  public let plan: BucketPlan
  /// The sums of the numbers that this rank owns, in the order of `plan.ranges(of:)`, end to end. On one rank these are
  /// the gradients themselves.
  public let own: Tensor<S>
  /// True if buckets are communicated while the caller computes. It may change while nothing is under way.
  public var overlaps: Bool
  /// The bytes that this rank has received from others as `Traffic` counts them, including values still under way.
  public var received: Int { counted + (rows?.matrix.receivedBytes ?? 0) }

  private let gradients: Tensor<S>
  private let values: Tensor<S>
  private let ranks: Communicator
  private let thread: CommunicationThread?
  /// The range of `own` for each bucket.
  private let places: [Range<Int>]
  /// The bucket of which only touched rows are reduced.
  private let rows: (bucket: Int, matrix: TouchedRows<S>)?
  private var touched: [Int] = []
  private var counted = 0
  private var waiting: [Int] = []
  /// The number of the submitted all-gather, for each bucket whose values may not have arrived yet.
  private var gathering: [Int: Int] = [:]

  /// Creates an exchange with a communicator of its own. Every rank must call it.
  ///
  /// - Parameter matrix: a bucket that is a matrix of which a step touches few rows, and the width of a row. Only
  ///   touched rows are reduced if these have fewer bytes than the matrix.
  public init(
    _ plan: BucketPlan, gradients: Tensor<S>, values: Tensor<S>, matrix: (bucket: Int, width: Int)?,
    over ranks: Communicator, overlaps: Bool
  ) throws {
    precondition(ranks.size == plan.ranks && gradients.count == values.count)
    precondition(plan.buckets.last?.range.upperBound ?? 0 == values.count, "the plan covers the arena")
    self.plan = plan
    self.gradients = gradients
    self.values = values
    self.overlaps = overlaps
    var places: [Range<Int>] = []
    for bucket in plan.buckets {
      let start = places.last?.upperBound ?? 0
      places.append(start..<start + bucket.pieces[ranks.rank].count)
    }
    self.places = places
    rows = matrix.map { bucket, width in
      (bucket, TouchedRows(width: width, pieces: plan.buckets[bucket].piecesInside))
    }
    if ranks.size == 1 {
      self.ranks = ranks
      thread = nil
      own = gradients
    } else {
      self.ranks = try ranks.duplicate(name: "buckets")
      thread = CommunicationThread("buckets", over: self.ranks)
      own = Tensor(Shape(places.last?.upperBound ?? 0))
    }
  }

  // MARK: Gradients

  /// Sets the rows of the matrix that this step touches, in rising order. The gradient of all other rows is 0. It must
  /// be called before the matrix's bucket is reduced.
  public func markTouched(_ rows: [Int]) {
    touched.removeAll(keepingCapacity: true)
    touched += rows
  }

  /// Starts to reduce the gradients of a bucket, which must be complete.
  public func reduce(_ bucket: Int) {
    guard let thread else { return }
    if bucket != rows?.bucket {
      counted += traffic.reduceScatter(plan.buckets[bucket].pieces, stride: MemoryLayout<S>.stride)
    }
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
      return { [matrix = rows.matrix, touched] ranks in
        try Trace.span("reduce bucket \(bucket), touched rows", .communication) {
          try matrix.reduce(whole, touched: touched, into: own, over: ranks)
        }
      }
    }
    return { [pieces = plan.buckets[bucket].piecesInside] ranks in
      try Trace.span("reduce bucket \(bucket)", .communication) {
        try ranks.reduceScatter(whole, into: own, ranges: pieces)
      }
    }
  }

  // MARK: Values

  /// Starts to gather the values of a bucket. This rank must have updated those that it owns.
  public func gather(_ bucket: Int) throws {
    guard let thread else { return }
    let pieces = plan.buckets[bucket].pieces
    counted += traffic.gather(pieces, stride: MemoryLayout<S>.stride)
    let work: @Sendable (Communicator) throws -> Void = { [values] ranks in
      try Trace.span("gather bucket \(bucket)", .communication) { try ranks.allGather(partsOf: values, ranges: pieces) }
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
