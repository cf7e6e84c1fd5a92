public import Tensor

/// Sums gradients into what each rank owns, a bucket at a time, and shares out the values that the owners have updated.
///
/// Every rank must call the same methods for the same buckets in the same order. When a bucket travels makes no
/// difference to the numbers: the same collectives run in the same order, on the communication thread or, without
/// overlap, on the caller's.
public final class BucketExchange<S: Scalar> {
  public let plan: BucketPlan
  /// The sums of what this rank owns, in the order of `plan.ranges(of:)`, end to end. On one rank the gradients
  /// themselves.
  public let own: Tensor<S>
  /// Whether buckets travel while the caller computes. It may change while nothing is under way.
  public var overlaps: Bool
  /// Bytes that this rank has received from others, by the counting of `Traffic`, with values that are still under way.
  public var received: Int { counted + (rows?.matrix.receivedBytes ?? 0) }

  private let gradients: Tensor<S>
  private let values: Tensor<S>
  private let ranks: Communicator
  private let thread: CommunicationThread?
  /// The part of `own` that belongs to each bucket.
  private let places: [Range<Int>]
  /// The bucket that travels as touched rows.
  private let rows: (bucket: Int, matrix: TouchedRows<S>)?
  private var touched: [Int] = []
  private var counted = 0
  private var waiting: [Int] = []
  /// Of each bucket whose values are not known to be here, the number of its gathering.
  private var gathering: [Int: Int] = [:]

  /// Every rank must call it: buckets travel over a communicator of their own.
  ///
  /// - Parameter matrix: a bucket that is a matrix, and the width of its rows, of which few are touched in a step:
  ///   those alone travel where that is less.
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

  /// Which rows of the matrix this step touches, by rising number: outside of them its gradient is 0. Said before its
  /// bucket leaves.
  public func markTouched(_ rows: [Int]) {
    touched.removeAll(keepingCapacity: true)
    touched += rows
  }

  /// Nothing is added to the gradients of a bucket any more: they may leave.
  public func reduce(_ bucket: Int) {
    guard let thread else { return }
    if bucket != rows?.bucket {
      counted += traffic.reduceScatter(plan.buckets[bucket].pieces, stride: MemoryLayout<S>.stride)
    }
    guard overlaps else { return waiting.append(bucket) }
    let work = reduction(bucket)
    thread.submit { try work($0) }
  }

  /// Returns when the sums of all buckets are in `own`.
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

  /// This rank has updated what it owns of a bucket: its values may be shared out.
  public func gather(_ bucket: Int) throws {
    guard let thread else { return }
    let pieces = plan.buckets[bucket].pieces
    counted += traffic.gather(pieces, stride: MemoryLayout<S>.stride)
    let work: @Sendable (Communicator) throws -> Void = { [values] ranks in
      try Trace.span("gather bucket \(bucket)", .communication) { try ranks.allGather(partsOf: values, ranges: pieces) }
    }
    if overlaps { gathering[bucket] = thread.submit(work) } else { try work(ranks) }
  }

  /// Returns when all ranks' values of these buckets are here; nil: of all.
  public func waitForValues(_ buckets: [Int]? = nil) throws {
    for bucket in buckets ?? Array(gathering.keys) {
      guard let number = gathering.removeValue(forKey: bucket), let thread else { continue }
      try Trace.span("wait for bucket \(bucket)", .wait) { try thread.wait(for: number) }
    }
  }

  private var traffic: Traffic { Traffic(rank: ranks.rank, size: ranks.size) }
}
