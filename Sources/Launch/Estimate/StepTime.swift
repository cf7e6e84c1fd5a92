import Dist
import Foundation
import Tensor

/// How long a step takes, by a model of its parts.
///
/// compute = operations / (η · matrix rate), η = `efficiency`; the update passes seven numbers a parameter over memory,
/// ten with a moving average. Gradients leave bucket by bucket while backward runs, and parameters come in while the
/// next forward does: of their time only what exceeds that of the towers is waited for, and the last and the first
/// bucket. Embeddings are gathered with nothing else to do. Decoding of images goes on beside, in threads of its own,
/// and is not counted.
struct StepTime {
  /// The share of the matrix rate that a step reaches (`scripts/bench step`: 0.8 of the rate at its own shapes in fp32,
  /// 0.65 to 0.75 in bf16; those rates are a little below that of large squares).
  static func efficiency(_ precision: ComputePrecision) -> Double { precision == .bf16 ? 0.6 : 0.75 }
  /// Bytes a second that an update reads and writes. Two ranks with a socket to themselves reach 35 to 60 GB/s; where
  /// more share its memory each has less.
  static let memoryRate = 2e10

  var compute: Double
  var update: Double
  /// What is waited for of gradients and parameters, and of embeddings and sums.
  var exchange: Double
  var embeddings: Double

  var total: Double { compute + update + exchange + embeddings }

  /// - Parameters:
  ///   - rates: of one rank's matrix products.
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
    let expected = estimate.tokenRows.expectedReceived ?? estimate.tokenRows.received
    let buckets = estimate.payloads.filter { ["gradients", RunEstimate.tokens].contains($0.part) }.map {
      $0.kind == .exchange ? cost.exchange(Double(expected)) : cost.share(Double($0.bytes))
    }
    let values = estimate.payloads.filter { $0.part == "parameters" }.map { cost.share(Double($0.bytes)) }
    let (reduced, gathered) = (buckets.reduce(0, +), values.reduce(0, +))
    if overlaps {
      exchange =
        max(buckets.last ?? 0, reduced - work.backward / towers)
        + max(values.first ?? 0, gathered - work.forward / towers)
    } else {
      exchange = reduced + gathered
    }
    embeddings = estimate.payloads.filter {
      !["gradients", RunEstimate.tokens, "parameters"].contains($0.part)
    }.reduce(0) {
      $0 + ($1.isShared ? cost.share(Double($1.bytes)) : cost.small())
    }
  }
}
