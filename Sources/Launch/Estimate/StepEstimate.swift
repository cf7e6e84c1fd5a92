import Dist
import Foundation
import Model
import Tensor

/// The memory, the operations and the time of a step on the rank that has the most pairs, for a given cluster and
/// global batch.
struct StepEstimate {
  /// The number of that rank's pairs.
  let rows: Int
  let estimate: RunEstimate
  let work: StepWork
  let time: StepTime

  /// - Parameters:
  ///   - batch: the global batch, which replaces the run's own.
  ///   - rates: the rates of one rank's matrix products.
  init(_ shape: RunShape, _ cost: ClusterCost, batch: Int, rates: ProductRates) {
    var shape = shape
    shape.run.batch.global = batch
    rows = (batch + cost.ranks - 1) / cost.ranks
    estimate = shape.estimate(ranks: cost.ranks, ofNode: cost.ranksOfNode)
    work = StepWork(shape, rows: rows)
    time = StepTime(work, estimate, cost, rates, overlaps: shape.run.reduce.overlap)
  }
}

/// The operations of the matrix products in one rank's step. A multiply-add counts as two.
struct StepWork {
  /// The towers' forward. With micro-batches it runs once for the features of all pairs, and again before backward.
  let forward: Double
  /// The towers' backward, with the activations that are computed again for it.
  let backward: Double
  let objective: Double
  /// The teacher's forward; 0 if its embeddings come from a cache.
  let teacher: Double

  /// The precision of the towers' products. Those of the objective are always in fp32.
  let precision: ComputePrecision
  let teacherPrecision: ComputePrecision

  /// - Parameter rows: b, the number of the rank's pairs.
  init(_ shape: RunShape, rows b: Int) {
    let (run, config) = (shape.run, shape.config)
    let tokens = shape.captions?.mean ?? Double(config.text.contextLength)
    precision = run.precision.used
    teacherPrecision = shape.teacherPrecision
    let once = Self.forward(config, rows: b, tokens: tokens)
    let image = Double(b) * config.vision.forwardOperations(embedding: config.embedding)
    // A frozen tower runs forward once, and never backward.
    let learning = (shape.frozen.image ? 0 : image) + (shape.frozen.text ? 0 : once - image)
    let hasMicroBatches = run.batch.microBatchSize.map { $0 < b } ?? false
    forward = once + (hasMicroBatches ? learning : 0)
    backward =
      2 * learning + Double(b) * config.repeatedOperations(tokens: tokens, run.batch.recompute, frozen: shape.frozen)
    teacher = shape.loadedTeacher.map { Self.forward($0.config, rows: b, tokens: tokens) } ?? 0
    objective = run.objective.operations(shape.objectiveSize(rows: b))
  }

  private static func forward(_ config: CLIPConfig, rows b: Int, tokens: Double) -> Double {
    Double(b) * config.forwardOperations(tokens: tokens)
  }
}

/// The seconds of a step, by a model of its parts.
///
/// Computing takes operations / (η · rate of matrix products), where η is `efficiency`. The update passes seven numbers
/// per parameter through memory, and ten with a moving average. Gradients leave bucket by bucket while backward runs,
/// and parameters arrive during the next forward. A step therefore waits only for the time by which these messages
/// exceed the towers' computing, and at least for the last bucket of gradients and the first of parameters. It computes
/// nothing while embeddings are gathered. Images are decoded by threads of their own, which are not counted.
struct StepTime {
  /// Returns η, the share of the measured rate of matrix products that a step reaches. `scripts/bench step` shows 0.8
  /// of the rate at the step's own shapes in fp32, and 0.65 to 0.75 in bf16; those rates are a little below the rate of
  /// large square matrices.
  static func efficiency(_ precision: ComputePrecision) -> Double { precision == .bf16 ? 0.6 : 0.75 }
  /// The bytes per second that an update reads and writes. Two ranks with a socket each reach 35 to 60 GB/s; each rank
  /// has less if more of them share a socket's memory.
  static let memoryRate = 2e10

  let compute: Double
  let update: Double
  /// The wait for gradients and parameters.
  let exchange: Double
  /// The wait for embeddings and sums.
  let embeddings: Double

  var total: Double { compute + update + exchange + embeddings }

  /// - Parameters:
  ///   - rates: the rates of one rank's matrix products.
  ///   - overlaps: true if messages travel while the towers compute.
  init(_ work: StepWork, _ estimate: RunEstimate, _ cost: ClusterCost, _ rates: ProductRates, overlaps: Bool) {
    func speed(_ precision: ComputePrecision) -> Double { Self.efficiency(precision) * rates[precision] }
    let towers = speed(work.precision)
    compute =
      (work.forward + work.backward) / towers + work.objective / speed(.fp32)
      + work.teacher / speed(work.teacherPrecision)
    update = Double(estimate.updated) / Self.memoryRate
    guard cost.ranks > 1 else {
      (exchange, embeddings) = (0, 0)
      return
    }
    let touched = Double(estimate.tokenRows.expectedReceived ?? estimate.tokenRows.received)
    var (gradients, parameters, others): ([Double], [Double], Double) = ([], [], 0)
    for payload in estimate.payloads {
      switch payload.part {
      case RunEstimate.gradients: gradients.append(cost.scatterOrGather(Double(payload.bytes)))
      case RunEstimate.tokens: gradients.append(cost.allToAll(touched))
      case RunEstimate.parameters: parameters.append(cost.scatterOrGather(Double(payload.bytes)))
      case _ where payload.kind == .allReduce: others += cost.smallAllReduce()
      default: others += cost.scatterOrGather(Double(payload.bytes))
      }
    }
    let (reduced, gathered) = (gradients.reduce(0, +), parameters.reduce(0, +))
    if overlaps {
      exchange =
        max(gradients.last ?? 0, reduced - work.backward / towers)
        + max(parameters.first ?? 0, gathered - work.forward / towers)
    } else {
      exchange = reduced + gathered
    }
    embeddings = others
  }
}
