public import Tensor

/// Sums gradients into what each rank owns, a bucket at a time, and shares out the values that the owners have updated.
///
/// Every rank must call the same methods for the same buckets in the same order. When a bucket travels makes no difference to
/// the numbers: the same collectives run in the same order, on the communication thread or, without overlap, on the
/// caller's.
public final class BucketExchange<S: Scalar> {
  public let plan: BucketPlan
  /// The sums of what this rank owns, in the order of `plan.ranges(of:)`, end to end. On one rank the gradients themselves.
  public let own: Tensor<S>
  /// Whether buckets travel while the caller computes. It may change while nothing is under way.
  public var overlaps: Bool
  /// Bytes that this rank has received from others, by the counting of `Traffic`, with what is still under way.
  public private(set) var received = 0

  private let gradients: Tensor<S>
  private let values: Tensor<S>
  private let ranks: Communicator
  private let thread: CommunicationThread?
  /// The part of `own` that belongs to each bucket.
  private let places: [Range<Int>]
  private var waiting: [Int] = []
  /// Of each bucket whose values are not known to be here, the number of its gathering.
  private var gathering: [Int: Int] = [:]

  /// Every rank must call it: buckets travel over a communicator of their own.
  public init(
    _ plan: BucketPlan, gradients: Tensor<S>, values: Tensor<S>, over ranks: Communicator, overlaps: Bool
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

  /// Nothing is added to the gradients of a bucket any more: they may leave.
  public func reduce(_ bucket: Int) {
    guard let thread else { return }
    received += traffic.reduceScatter(plan.buckets[bucket].pieces, stride: MemoryLayout<S>.stride)
    guard overlaps else { return waiting.append(bucket) }
    let work = reduction(bucket)
    thread.submit { try work($0) }
  }

  /// Returns when the sums of all buckets are in `own`.
  public func finishReduction() throws {
    for bucket in waiting { try reduction(bucket)(ranks) }
    waiting = []
    try thread?.wait()
  }

  private func reduction(_ bucket: Int) -> @Sendable (Communicator) throws -> Void {
    let range = plan.buckets[bucket].range
    let (whole, own) = (gradients.slice(range), own.slice(places[bucket]))
    let pieces = plan.buckets[bucket].pieces.map { $0.lowerBound - range.lowerBound..<$0.upperBound - range.lowerBound }
    return { try $0.reduceScatter(whole, into: own, ranges: pieces) }
  }

  // MARK: Values

  /// This rank has updated what it owns of a bucket: its values may be shared out.
  public func gather(_ bucket: Int) throws {
    guard let thread else { return }
    let pieces = plan.buckets[bucket].pieces
    received += traffic.gather(pieces, stride: MemoryLayout<S>.stride)
    if overlaps {
      gathering[bucket] = thread.submit { [values] in try $0.gatherSlices(in: values, ranges: pieces) }
    } else {
      try ranks.gatherSlices(in: values, ranges: pieces)
    }
  }

  /// Returns when all ranks' values of these buckets are here; nil: of all.
  public func waitForValues(_ buckets: [Int]? = nil) throws {
    for bucket in buckets ?? Array(gathering.keys) {
      if let number = gathering.removeValue(forKey: bucket) { try thread?.wait(for: number) }
    }
  }

  private var traffic: Traffic { Traffic(rank: ranks.rank, size: ranks.size) }
}
