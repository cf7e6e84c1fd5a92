import Dist
import Model
import Tensor

/// Lets gradients leave while backward computes, and parameters come in while the next forward does: where the stages
/// of a model's towers meet the buckets of its arena.
final class StageExchange<S: Scalar> {
  let buckets: BucketExchange<S>
  /// Seconds that forwards have waited for parameters.
  private(set) var waited = 0.0

  private let model: CLIP<S>
  /// The buckets of what becomes ready at once and is read at once, and how many such units each bucket belongs to.
  private let bucketsOfUnit: [[Int]]
  private let unitsOfBucket: [Int]
  /// Which buckets hold nothing that is learned, and never travel; and the units of towers through which nothing runs
  /// backward.
  private let isStill: [Bool]
  private let stillUnits: [Int]
  /// How many units of each bucket are not ready yet in the backward that is under way; nil where none is.
  private var missing: [Int]?
  private var failure: (any Error)?
  /// The rows of the table that a step touches; a mark for each row, none between two steps.
  private var touched: [Int] = []
  private var isTouched: [Bool]

  /// Every rank must call it.
  init(_ model: CLIP<S>, _ config: ReduceConfig, frozen: Frozen, over ranks: Communicator) throws {
    self.model = model
    let parameters = model.parameters
    let plan = parameters.bucketPlan(ranks: ranks.size, mebibytes: config.bucket)
    let table = model.text.table
    isTouched = Array(repeating: false, count: table.shape[0])
    buckets = try BucketExchange(
      plan, gradients: parameters.gradients, values: parameters.values,
      matrix: (plan.buckets(in: [table.extent])[0], table.shape[1]), over: ranks, overlaps: config.overlap)
    var text = model.text.stages.extents
    text[0].append(table.extent)
    // The places of what becomes ready at once, and is read at once: each stage of the vision tower, then of the text
    // tower, whose first has the table too; then all that is no tower's.
    let units = model.visual.stages.extents + text + [[model.logitScale.extent.lowerBound..<parameters.count]]
    let bucketsOfUnit = units.map(plan.buckets(in:))
    self.bucketsOfUnit = bucketsOfUnit
    unitsOfBucket = plan.buckets.indices.map { bucket in bucketsOfUnit.count { $0.contains(bucket) } }
    let visual = model.visual.stages.extents.count
    isStill = plan.buckets.map { frozen.covers($0.range) }
    stillUnits = (frozen.image ? Array(0..<visual) : []) + (frozen.text ? Array(visual..<visual + text.count) : [])
    for (stages, first) in [(model.visual.stages, 0), (model.text.stages, visual)] {
      stages.willRun = { [unowned self] in willRun(first + $0) }
      stages.gradientsReady = { [unowned self] in ready(first + $0) }
    }
  }

  deinit {
    for stages in [model.visual.stages, model.text.stages] { (stages.willRun, stages.gradientsReady) = (nil, nil) }
  }

  // MARK: Gradients

  /// The tokens of this rank's captions, whose rows of the table are all that this step touches.
  func touch(_ captions: [[Int32]]) {
    touched.removeAll(keepingCapacity: true)
    for caption in captions { for token in caption { isTouched[Int(token)] = true } }
    for row in isTouched.indices where isTouched[row] {
      touched.append(row)
      isTouched[row] = false
    }
    buckets.touch(touched)
  }

  /// From here on stages that become ready leave; what is no tower's is ready, and what no backward will announce.
  func beginReduction() {
    missing = unitsOfBucket
    ready(bucketsOfUnit.count - 1)
    for unit in stillUnits.reversed() { ready(unit) }
  }

  /// All is ready that was not yet.
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

  private func reduce(_ bucket: Int) {
    if !isStill[bucket] { buckets.reduce(bucket) }
  }

  // MARK: Values

  /// Shares out what the owners have updated, in the order in which the next forward reads it. The logit scale is here
  /// on return. With `all`, what never moves is shared out too.
  func gather(all: Bool = false) throws {
    var begun: Set<Int> = []
    let scale = buckets.plan.buckets(in: [model.logitScale.extent])
    for bucket in scale + bucketsOfUnit.joined() where (all || !isStill[bucket]) && begun.insert(bucket).inserted {
      try buckets.gather(bucket)
    }
    try buckets.waitForValues(scale)
  }

  /// Returns when all parameters are here. Whoever reads them outside of a step's own forward calls it before.
  func settle() throws {
    try buckets.waitForValues()
    try check()
  }

  /// Throws what a forward, which cannot throw, has met.
  func check() throws { if let failure { throw failure } }

  /// What an objective reads before the towers' next forward is over is no tower's.
  func waitForObjective() throws { try buckets.waitForValues(bucketsOfUnit[bucketsOfUnit.count - 1]) }

  private func willRun(_ unit: Int) {
    guard failure == nil else { return }
    clock(&waited) {
      do { try buckets.waitForValues(bucketsOfUnit[unit]) } catch { failure = error }
    }
  }
}

extension ParameterStore {
  /// How gradients of this layout travel: the table of tokens alone, for few of its rows are touched in a step, and the
  /// logit scale, for it is wanted first.
  func bucketPlan(ranks: Int, mebibytes: Double) -> BucketPlan {
    BucketPlan(
      entries.map { .init($0.extent, isAlone: ["token_embedding.weight", "logit_scale"].contains($0.name)) },
      ranks: ranks, size: max(Int(mebibytes * 1_048_576) / MemoryLayout<S>.stride, 1))
  }
}
