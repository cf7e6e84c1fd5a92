import Dist
import Model
import Tensor

/// Overlaps communication with the towers: gradients leave while backward computes, and parameters arrive during the
/// next forward. It maps the stages of the towers onto the buckets of the parameters' arena.
final class GradientSync<S: Scalar> {
  let communicator: Communicator
  /// The slices of the arena that this rank owns, in ascending order.
  let ownRanges: [Range<Int>]
  private(set) var waited = 0.0
  /// The way of the buckets between ranks.
  var route: BucketRoute { buckets.route }
  /// The overlap may change between steps, once the parameters have arrived; the numbers are the same.
  let buckets: BucketExchange<S>
  private let model: CLIP<S>
  /// The buckets of each unit, whose parameters are read together, and the number of units of each bucket.
  private let bucketsOfUnit: [[Int]]
  private let unitsOfBucket: [Int]
  /// True for each bucket that holds only frozen parameters and never travels.
  private let isFrozen: [Bool]
  private let frozenUnits: [Int]
  /// The number of units of each bucket that are not ready yet in the backward under way; nil between two steps.
  private var missing: [Int]?
  private var failure: (any Error)?
  /// True if every parameter is the owner's very number on all ranks, and none was rounded on its way.
  private var isExact = true
  /// The rows of the token embedding that a step touches, and a mark for each row, which is clear between two steps.
  private var touched: [Int] = []
  private var isTouched: [Bool]
  var own: Tensor<S> { buckets.own }
  /// The bytes that this rank has received from others, in buckets and in other collectives.
  var received: Int { communicator.ledger.received + buckets.received + (embeddings?.receivedBytes ?? 0) }
  /// Gathers embeddings in two levels, if buckets travel so.
  let embeddings: NodeExchange<S>?

  /// Every rank must call it.
  init(_ model: CLIP<S>, _ config: ReduceConfig, frozen: Frozen, over ranks: Communicator) throws {
    (self.model, communicator) = (model, ranks)
    let parameters = model.parameters
    let plan = parameters.bucketPlan(ranks: ranks.size, mebibytes: config.bucket)
    ownRanges = plan.ranges(of: ranks.rank)
    let asks = ranks.size > 1 && config.levels != .one
    let nodes = try asks ? NodeMap(over: ranks) : NodeMap(ranks: ranks.size, ofNode: ranks.size)
    let route = config.route(plan, rounded: model.roundedExtents, frozen: frozen, nodes: nodes, S.self)
    embeddings = try route.nodes.map { try NodeExchange($0, over: ranks.duplicate(name: "embeddings")) }
    let tokenEmbedding = model.text.tokenEmbedding
    isTouched = Array(repeating: false, count: tokenEmbedding.shape[0])
    buckets = try BucketExchange(
      plan, gradients: parameters.gradients, values: parameters.values,
      matrix: (plan.buckets(in: [tokenEmbedding.extent])[0], tokenEmbedding.shape[1]), route: route, over: ranks,
      overlaps: config.overlap)
    var text = model.text.stages.extents
    text[0].append(tokenEmbedding.extent)
    // The units: each stage of the vision tower, then of the text tower, whose first includes the token embedding; last
    // the parameters outside the towers.
    let units = model.visual.stages.extents + text + [[model.logitScale.extent.lowerBound..<parameters.count]]
    let bucketsOfUnit = units.map(plan.buckets(in:))
    self.bucketsOfUnit = bucketsOfUnit
    unitsOfBucket = plan.buckets.indices.map { bucket in bucketsOfUnit.count { $0.contains(bucket) } }
    let visual = model.visual.stages.extents.count
    isFrozen = plan.buckets.map { frozen.covers($0.range) }
    frozenUnits = (frozen.image ? Array(0..<visual) : []) + (frozen.text ? Array(visual..<visual + text.count) : [])
    for (stages, first) in [(model.visual.stages, 0), (model.text.stages, visual)] {
      stages.willRun = { [unowned self] in willRun(first + $0) }
      stages.gradientsReady = { [unowned self] in ready(first + $0) }
    }
  }

  deinit {
    for stages in [model.visual.stages, model.text.stages] { (stages.willRun, stages.gradientsReady) = (nil, nil) }
  }

  /// Marks the rows of the token embedding that a step with these captions touches: no others have a gradient.
  func markTouched(_ captions: [[Int32]]) {
    touched.removeAll(keepingCapacity: true)
    for caption in captions { for token in caption { isTouched[Int(token)] = true } }
    for row in isTouched.indices where isTouched[row] {
      touched.append(row)
      isTouched[row] = false
    }
    buckets.markTouched(touched)
  }

  /// Starts the reduction with the parameters outside the towers, and with towers that have no backward pass.
  func beginReduction() {
    missing = unitsOfBucket
    ready(bucketsOfUnit.count - 1)
    for unit in frozenUnits.reversed() { ready(unit) }
  }

  func finishReduction() throws {
    if missing == nil { beginReduction() }
    for bucket in buckets.plan.buckets.indices.reversed() where missing?[bucket] ?? 0 > 0 { reduce(bucket) }
    missing = nil
    try buckets.finishReduction()
  }

  private func ready(_ unit: Int) {
    guard missing != nil else { return }
    for bucket in bucketsOfUnit[unit].reversed() {
      missing?[bucket] -= 1
      if missing?[bucket] == 0 { reduce(bucket) }
    }
  }

  private func reduce(_ bucket: Int) { if !isFrozen[bucket] { buckets.reduce(bucket) } }

  /// Starts to gather the updated parameters (with `all`, frozen ones too) in the order of the next forward. On return
  /// the logit scale has arrived. Unless `exactly`, the route may round parameters on their way to other ranks.
  func gather(all: Bool = false, exactly: Bool) throws {
    var begun: Set<Int> = []
    let scale = buckets.plan.buckets(in: [model.logitScale.extent])
    for bucket in scale + bucketsOfUnit.joined() where (all || !isFrozen[bucket]) && begun.insert(bucket).inserted {
      try buckets.gather(bucket, exactly: exactly)
      if !exactly, buckets.rounds(bucket) { isExact = false }
    }
    if exactly { isExact = true }
    try buckets.waitForValues(scale)
  }

  /// Returns once every parameter is on all ranks what it is on its owner. Every rank must call it, between two steps,
  /// before anything but a step's own forward reads parameters.
  func gatherExactly() throws {
    try waitForParameters()
    guard !isExact else { return }
    for bucket in buckets.plan.buckets.indices where !isFrozen[bucket] && buckets.rounds(bucket) {
      try buckets.gather(bucket, exactly: true)
    }
    isExact = true
    try waitForParameters()
  }

  /// Returns a hash of the parameters as all ranks must have them: those that were rounded on their way count rounded
  /// on their owners too.
  func hash() -> UInt64 {
    let values = model.parameters.values
    if isExact { return bitHash(values) }
    let (copied, rounded) = (Buffer<S>(), BFloat16Buffer())
    return buckets.plan.buckets.reduce(0) { hash, bucket in
      let copied = copied.tensor(Shape(bucket.range.count))
      copy(values.slice(bucket.range), into: copied)
      for extent in route.rounded where extent.overlaps(bucket.range) {
        let place = extent.lowerBound - bucket.range.lowerBound..<extent.upperBound - bucket.range.lowerBound
        let numbers = rounded.tensor(Shape(place.count))
        round(copied.slice(place), into: numbers)
        copy(MatrixOperand<S>.bf16(numbers), into: copied.slice(place))
      }
      return (hash &* 0x9E37_79B9_7F4A_7C15) ^ bitHash(copied)
    }
  }

  /// Returns once all parameters have arrived, some perhaps rounded.
  func waitForParameters() throws {
    try buckets.waitForValues()
    if let failure { throw failure }
  }

  /// Waits for the parameters outside the towers, which the loss reads. Throws the error that the forward has met.
  func waitForObjective() throws {
    if let failure { throw failure }
    try buckets.waitForValues(bucketsOfUnit[bucketsOfUnit.count - 1])
  }

  private func willRun(_ unit: Int) {
    guard failure == nil else { return }
    clock(&waited) { do { try buckets.waitForValues(bucketsOfUnit[unit]) } catch { failure = error } }
  }
}

extension ParameterStore {
  /// Cuts the arena into buckets. The token embedding, whose rows are sparse, and the logit scale have their own.
  func bucketPlan(ranks: Int, mebibytes: Double) -> BucketPlan {
    BucketPlan(
      entries.map { .init($0.extent, isAlone: [CLIPConfig.tokenEmbedding, CLIPConfig.logitScale].contains($0.name)) },
      ranks: ranks, size: max(Int(mebibytes * 1_048_576) / MemoryLayout<S>.stride, 1))
  }
}

/// The ranks of a job as the losses see them: Model's protocol over Dist's communicator.
struct JobRanks<S: Scalar>: Ranks {
  let communicator: Communicator
  /// Gathers rows in two levels; nil: in one. Vectors are so short that their number of messages counts.
  var nodes: NodeExchange<S>?
  func allGather(_ local: Tensor<S>, into all: Tensor<S>) throws {
    guard let nodes, all.columns > 1 else { return try communicator.allGather(rows: local, into: all) }
    let columns = all.columns
    let ranges = communicator.slices(of: all.rows).map { $0.lowerBound * columns..<$0.upperBound * columns }
    let own = all.slice(ranges[communicator.rank])
    if !own.isSameMemory(as: local) { copy(local, into: own) }
    try nodes.allGather(all, ranges: ranges)
  }
  func allReduce(_ numbers: inout [Double]) throws { try communicator.allReduce(&numbers) }
  func allReduceMaximum(_ numbers: inout [Double]) throws { try communicator.allReduce(&numbers, .maximum) }
}
