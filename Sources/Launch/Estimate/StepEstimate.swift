import Dist
import Foundation
import Model
import Tensor

/// The memory, the operations and the time of a step on the rank that has the most pairs.
struct StepEstimate {
  let rows: Int
  let estimate: RunEstimate
  let work: StepWork
  let time: StepTime

  /// - Parameter batch: the global batch, which replaces the run's own.
  init(_ shape: RunShape, _ cost: ClusterCost, batch: Int, rates: ProductRates) {
    var shape = shape
    shape.run.batch.global = batch
    rows = (batch + cost.ranks - 1) / cost.ranks
    estimate = shape.estimate(ranks: cost.ranks, ofNode: cost.ranksOfNode)
    work = StepWork(shape, rows: rows)
    time = StepTime(work, estimate, cost, rates, overlaps: shape.run.reduce.overlap)
  }
}

/// The operations of the matrix products in the step of a rank with b pairs. A multiply-add counts as two.
struct StepWork {
  /// The towers' forward. With micro-batches it runs once for the features of all pairs, and again before backward.
  let forward: Double
  /// The towers' backward, with the activations that are computed again for it.
  let backward: Double
  let objective: Double
  /// The teacher's forward; 0 if its embeddings come from a cache.
  let teacher: Double
  /// The precisions of the towers' products. Those of the objective are always in fp32.
  let precision, teacherPrecision: ComputePrecision

  init(_ shape: RunShape, rows b: Int) {
    let (run, config) = (shape.run, shape.config)
    let tokens = shape.captions?.mean ?? Double(config.text.contextLength)
    let each = shape.captionsPerImage
    (precision, teacherPrecision) = (run.precision.used, shape.teacherPrecision)
    func forward(_ config: CLIPConfig, _ use: TowerUse) -> Double {
      Double(b) * config.forwardOperations(tokens: tokens, captions: each, use: use)
    }
    let use = shape.frozen.image ? TowerUse.forward : .training
    let once = forward(config, use)
    let image = Double(b) * config.vision.forwardOperations(embedding: config.embedding, use: use)
    // A frozen tower runs forward once, and never backward.
    let learning = (shape.frozen.image ? 0 : image) + (shape.frozen.text ? 0 : once - image)
    let hasMicroBatches = run.batch.microBatchSize.map { $0 < b } ?? false
    self.forward = once + (hasMicroBatches ? learning : 0)
    let repeated = config.repeatedOperations(
      tokens: tokens, captions: each, run.batch.recompute, frozen: shape.frozen)
    backward = 2 * learning + Double(b) * repeated
    teacher = shape.loadedTeacher.map { forward($0.config, .forward) } ?? 0
    objective = Double(each) * run.objective.operations(shape.objectiveSize(rows: b))
  }
}

/// The seconds of a step, by a model of its parts.
/// Computing takes operations / (η · rate of matrix products), where η is `efficiency`. The update passes seven numbers
/// per parameter through memory, and ten with a moving average. Gradients leave bucket by bucket while backward runs,
/// and parameters arrive during the next forward. A step therefore waits only for the time by which these messages
/// exceed the towers' computing, and at least for the last bucket of gradients and the first of parameters. It computes
/// nothing while embeddings are gathered. Images are decoded by threads of their own, which are not counted.
struct StepTime: Codable {
  /// Returns η, the share of the measured rate of matrix products that a step reaches. `scripts/bench step` shows 0.8
  /// of the rate at the step's own shapes in fp32, and 0.65 to 0.75 in bf16; those rates are a little below the rate of
  /// large square matrices.
  static func efficiency(_ precision: ComputePrecision) -> Double { precision == .bf16 ? 0.6 : 0.75 }
  /// The bytes per second of an update. Two ranks with a socket each reach 35 to 60 GB/s, ranks that share one less.
  static let memoryRate = 2e10
  let compute, update: Double
  /// The waits for gradients and parameters, and for embeddings and sums.
  let exchange, embeddings: Double
  let total: Double

  /// - Parameter overlaps: true if messages travel while the towers compute.
  init(_ work: StepWork, _ estimate: RunEstimate, _ cost: ClusterCost, _ rates: ProductRates, overlaps: Bool) {
    func speed(_ precision: ComputePrecision) -> Double { Self.efficiency(precision) * rates[precision] }
    let towers = speed(work.precision)
    compute =
      (work.forward + work.backward) / towers + work.objective / speed(.fp32)
      + work.teacher / speed(work.teacherPrecision)
    update = Double(estimate.updated) / Self.memoryRate
    var (gradients, parameters, others): ([Double], [Double], Double) = ([], [], 0)
    for payload in estimate.payloads {
      switch payload.part {
      case RunEstimate.gradients: gradients.append(cost.seconds(payload))
      case RunEstimate.tokens: gradients.append(cost.seconds(estimate.expectedTokens ?? payload))
      case RunEstimate.parameters: parameters.append(cost.seconds(payload))
      default: others += cost.seconds(payload)
      }
    }
    let (reduced, gathered) = (gradients.reduce(0, +), parameters.reduce(0, +))
    exchange =
      overlaps
      ? max(gradients.last ?? 0, reduced - work.backward / towers)
        + max(parameters.first ?? 0, gathered - work.forward / towers) : reduced + gathered
    embeddings = others
    total = compute + update + exchange + embeddings
  }
}

/// The estimated cost of a run beside the measured one.
struct Outcome {
  /// Bytes of the rank that held the most: its resident memory at the peak, with its part of what its node shares.
  var memory: (predicted: Int, measured: Int)
  /// Seconds of a step. The measured ones are the median of the last few hundred steps.
  var step: (predicted: Double, measured: Double)

  var text: String {
    "predicted \(memory.predicted >> 20) MiB a rank and \(Figures.significant(step.predicted, 3)) s a step, "
      + "measured \(memory.measured >> 20) MiB and \(Figures.significant(step.measured, 3)) s"
  }
}

extension Outcome {
  /// Measures matrix products and links between ranks for some tenths of a second; nil if the run had fewer than two
  /// steps. `shared` has the bytes of the shared-memory windows that this rank sees. Every rank must call it.
  init?(_ shape: RunShape, seconds: StepTimes, shared: Int, over ranks: Communicator) throws {
    guard let median = seconds.median else { return nil }
    let own = Int(ProcessMemory.peak * 1_048_576) - shared + shared / ranks.nodeSize
    var held = (0..<ranks.size).flatMap { $0 == ranks.rank ? [own, shape.program] : [0, 0] }
    try ranks.allReduce(&held)
    let fullest = (0..<ranks.size).max { held[2 * $0] < held[2 * $1] } ?? 0
    var shape = shape
    shape.program = held[2 * fullest + 1]
    memory = (shape.estimate(ranks: ranks.size, ofNode: ranks.nodeSize).memoryBytes, held[2 * fullest])

    try ranks.barrier()
    // Longer measurements are steadier, but the end of a run of short steps should take no longer than a few of them.
    let rates = ProductRates.measure(
      threads: shape.threads, shape.precisions, seconds: min(max(median, 0.01), 0.05))
    var slowest = [-rates.fp32, -rates.bf16]
    try ranks.allReduce(&slowest, .maximum)
    let estimate = StepEstimate(
      shape, try ClusterCost(measuredOver: ranks), batch: shape.run.batch.global,
      rates: ProductRates(fp32: -slowest[0], bf16: -slowest[1]))
    step = (estimate.time.total, median)
  }
}
