import Dist
import Model
import Tensor

/// What takes the time of a step on a number of ranks, and which changes would raise the efficiency there.
struct StepLimits: Codable {
  /// A part of a step's time, by the resource that it waits for: the cores (four parts), a wire, or storage.
  enum Part: String, Codable, CaseIterable {
    case towers, objective, teacher, update
    case wireWithinNodes = "wire within nodes"
    case wireBetweenNodes = "wire between nodes"
    case latency, evaluation, checkpoints
  }

  struct Share: Codable, Equatable {
    var part: Part
    var seconds: Double
  }

  /// A change, and the efficiency with it.
  struct Lift: Codable {
    var change: String
    var efficiency: Double
  }

  var ranks, nodes, batch: Int
  /// The seconds of a step, and of all parts. Messages that the towers' computing hides cost nothing, so that a part of
  /// them has the seconds by which a step would be shorter if it cost nothing; these need not add up.
  var seconds: Double
  var shares: [Share]
  /// The part that takes the most time.
  var binds: Part
  /// The part that takes the most beyond its share of what a single rank would take; nil if none takes more.
  var costs: Part?
  /// The speed of each rank relative to a single rank, as in `RunPlan.Scale`.
  var efficiency: Double
  var lifts: [Lift]
}

/// Computes limits by leaving out one cost at a time.
struct LimitModel {
  /// The largest global batch that is doubled.
  private static let mostPairs = 1 << 24
  let shape: RunShape
  let rates: ProductRates
  let between: BetweenSteps
  /// True if the single rank with which each rank is compared has as many pairs as each rank, false if it has the whole
  /// batch.
  let isWeak: Bool

  /// Returns the limits of steps of `batch` pairs.
  func limits(_ cost: ClusterCost, batch: Int) -> StepLimits {
    let step = estimate(cost, batch: batch)
    let alone = alone(step, cost, batch: batch)
    let found = shares(step, cost)
    let single = shares(alone, cost.with(ranks: 1)).map { $0.seconds / parts(of: cost) }
    let costs = zip(found, single).map { (part: $0.part, seconds: $0.seconds - $1) }.filter { $0.seconds > 0 }
    return StepLimits(
      ranks: cost.ranks, nodes: cost.nodes, batch: batch, seconds: step.time.total, shares: found,
      binds: found.max { $0.seconds < $1.seconds }?.part ?? .towers,
      costs: costs.max { $0.seconds < $1.seconds }?.part,
      efficiency: alone.time.total / parts(of: cost) / step.time.total,
      lifts: lifts(step, alone, cost, batch: batch))
  }

  private func estimate(_ cost: ClusterCost, batch: Int) -> StepEstimate {
    StepEstimate(shape, cost, batch: batch, rates: rates)
  }

  /// Returns the step of a single rank.
  private func alone(_ step: StepEstimate, _ cost: ClusterCost, batch: Int) -> StepEstimate {
    estimate(cost.with(ranks: 1), batch: isWeak ? step.rows : batch)
  }

  /// Returns the number of ranks over which the single rank's work is divided.
  private func parts(of cost: ClusterCost) -> Double { isWeak ? 1 : Double(cost.ranks) }

  /// Returns the seconds of the same step over other links.
  private func seconds(_ step: StepEstimate, _ cost: ClusterCost) -> Double {
    StepTime(step.work, step.estimate, cost, rates, overlaps: shape.run.reduce.overlap).total
  }

  private func shares(_ step: StepEstimate, _ cost: ClusterCost) -> [StepLimits.Share] {
    func computing(_ operations: Double, _ precision: ComputePrecision) -> Double {
      operations / (StepTime.efficiency(precision) * rates[precision])
    }
    func saved(_ change: (inout ClusterCost) -> Void) -> Double {
      var other = cost
      change(&other)
      return max(step.time.total - seconds(step, other), 0)
    }
    let (least, most) = (Link.sizes.lowerBound, Link.sizes.upperBound)
    return StepLimits.Part.allCases.map { part in
      let value: Double
      switch part {
      case .towers: value = computing(step.work.forward + step.work.backward, step.work.precision)
      case .objective: value = computing(step.work.objective, .fp32)
      case .teacher: value = computing(step.work.teacher, step.work.teacherPrecision)
      case .update: value = step.time.update
      case .wireWithinNodes: value = saved { $0.memory.bandwidth = most }
      case .wireBetweenNodes: value = saved { $0.network.bandwidth = most }
      case .latency:
        value = saved {
          $0.memory.latency = least
          $0.network.latency = least
        }
      case .evaluation: value = between.evaluationSeconds(shape, cost, rates)
      case .checkpoints: value = between.checkpointSeconds(shape, ranks: cost.ranks, step: step.time.total)
      }
      return StepLimits.Share(part: part, seconds: value)
    }
  }

  /// Returns the changes that are tried, each by itself.
  private func lifts(
    _ step: StepEstimate, _ alone: StepEstimate, _ cost: ClusterCost, batch: Int
  ) -> [StepLimits.Lift] {
    func lift(_ change: String, _ model: LimitModel, _ cost: ClusterCost, _ batch: Int) -> StepLimits.Lift {
      let step = model.estimate(cost, batch: batch)
      let alone = model.alone(step, cost, batch: batch)
      return StepLimits.Lift(
        change: change, efficiency: alone.time.total / parts(of: cost) / step.time.total)
    }
    func lift(_ change: String, over other: ClusterCost) -> StepLimits.Lift {
      StepLimits.Lift(change: change, efficiency: alone.time.total / parts(of: cost) / seconds(step, other))
    }
    var (wider, nearer, larger) = (cost, cost, shape)
    wider.network.bandwidth = min(2 * cost.network.bandwidth, Link.sizes.upperBound)
    nearer.network.latency = max(cost.network.latency / 2, Link.sizes.lowerBound)
    larger.run.reduce.bucket = min(4 * shape.run.reduce.bucket, ReduceConfig.buckets.upperBound)
    let buckets = LimitModel(shape: larger, rates: rates, between: between, isWeak: isWeak)
    var (single, double, rounded) = (shape, shape, shape)
    (single.run.reduce.levels, double.run.reduce.levels, rounded.run.reduce.wire) = (.one, .two, .bf16)
    var found = [
      lift("twice the bandwidth between nodes", over: wider), lift("half the latency between nodes", over: nearer),
      lift("reduce.bucket four times as large", buckets, cost, batch),
    ]
    for (change, shape) in [("reduce.levels: 1", single), ("reduce.levels: 2", double), ("reduce.wire: bf16", rounded)]
    {
      let model = LimitModel(shape: shape, rates: rates, between: between, isWeak: isWeak)
      found.append(lift(change, model, cost, batch))
    }
    // The same cores and nodes, in fewer ranks.
    if cost.ranks % 2 == 0, cost.ranks / 2 >= cost.nodes {
      var fewer = cost
      fewer.ranks /= 2
      let faster = ProductRates(fp32: 2 * rates.fp32, bf16: 2 * rates.bf16)
      let model = LimitModel(shape: shape, rates: faster, between: between, isWeak: isWeak)
      found.append(lift("half as many ranks, of twice the cores", model, fewer, batch))
    }
    if batch <= Self.mostPairs { found.append(lift("twice the pairs a rank", self, cost, 2 * batch)) }
    return found
  }
}
