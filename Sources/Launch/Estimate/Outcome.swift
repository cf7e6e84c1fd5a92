import Dist
import Foundation

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
  /// Measures the rate of matrix products and the links between ranks, on which the estimate depends, for some tenths
  /// of a second. The result is nil if the run had fewer than two steps. Every rank must call it.
  ///
  /// - Parameters:
  ///   - seconds: the times of the run's steps.
  ///   - shared: the bytes of the shared-memory windows that this rank sees.
  init?(_ shape: RunShape, seconds: StepTimes, shared: Int, over ranks: Communicator) throws {
    guard let median = seconds.median else { return nil }
    let own = Int(ProcessMemory.peak * 1_048_576) - shared + shared / ranks.nodeSize
    let peaks = ranks.slices(of: ranks.size).map { $0.contains(ranks.rank) ? [own, shape.program] : [0, 0] }
    var held = peaks.flatMap { $0 }
    try ranks.allReduce(&held)
    let fullest = (0..<ranks.size).max { held[2 * $0] < held[2 * $1] } ?? 0
    var shape = shape
    shape.program = held[2 * fullest + 1]
    memory = (shape.estimate(ranks: ranks.size, ofNode: ranks.nodeSize).memoryBytes, held[2 * fullest])

    try ranks.barrier()
    let rates = ProductRates.measure(threads: shape.threads, shape.precisions, seconds: 0.05)
    var slowest = [-rates.fp32, -rates.bf16]
    try ranks.allReduce(&slowest, .maximum)
    let cost = try ClusterCost(measuredOver: ranks)
    let estimate = StepEstimate(
      shape, cost, batch: shape.run.batch.global, rates: ProductRates(fp32: -slowest[0], bf16: -slowest[1]))
    step = (estimate.time.total, median)
  }
}
