import Dist
import Foundation

/// The predicted cost of a run beside the measured one.
struct Outcome {
  /// Bytes of the rank that held most: resident memory at its peak, with the rank's part of what its node shares.
  var memory: (predicted: Int, measured: Int)
  /// Seconds of a step; the measured ones are the median of the last few hundred steps.
  var step: (predicted: Double, measured: Double)

  var text: String {
    "predicted \(memory.predicted >> 20) MiB a rank and \(Figures.significant(step.predicted, 3)) s a step, "
      + "measured \(memory.measured >> 20) MiB and \(Figures.significant(step.measured, 3)) s"
  }
}

extension Outcome {
  /// Measures what a prediction needs, the matrix rate and the network between ranks, for some tenths of a second.
  /// Returns nil for a run of fewer than two steps. Every rank must call it.
  ///
  /// - Parameters:
  ///   - seconds: the times of the steps.
  ///   - shared: bytes of the shared-memory windows that this rank sees.
  init?(_ header: RunHeader, seconds: StepTimes, shared: Int, over ranks: Communicator) throws {
    guard let median = seconds.median else { return nil }
    let own = Int(ProcessMemory.peak * 1_048_576) - shared + shared / ranks.nodeSize
    let peaks = ranks.slices(of: ranks.size).map { $0.contains(ranks.rank) ? [own, header.program] : [0, 0] }
    var held = peaks.flatMap { $0 }
    try ranks.allReduce(&held)
    let fullest = (0..<ranks.size).max { held[2 * $0] < held[2 * $1] } ?? 0
    var header = header
    header.program = held[2 * fullest + 1]
    memory = (header.estimate(ranks: ranks.size, ofNode: ranks.nodeSize).memoryBytes, held[2 * fullest])

    try ranks.barrier()
    let rates = ProductRates.measure(threads: header.plan.compute, header.precisions, seconds: 0.05)
    var slowest = [-rates.fp32, -rates.bf16]
    try ranks.allReduce(&slowest, .maximum)
    let cost = try ClusterCost(measuredOver: ranks)
    let estimate = StepEstimate(
      header, cost, batch: header.run.batch.global, rates: ProductRates(fp32: -slowest[0], bf16: -slowest[1]))
    step = (estimate.time.total, median)
  }
}

extension ClusterCost {
  /// The ranks as they are, with what a few messages take between rank 0 and another of its node, and one of another
  /// node. Every rank must call it.
  init(measuredOver ranks: Communicator) throws {
    let nodes = try ranks.nodes()
    func wire(to peer: Int?, or usual: Wire) throws -> Wire {
      guard let peer else { return usual }
      var figures = [0.0, 0.0]
      try ranks.barrier()
      if ranks.rank == 0 {
        let short = try PingPong.begin(with: peer, bytes: 16, seconds: 0.01, over: ranks).typical
        let long = try PingPong.begin(with: peer, bytes: 1 << 20, seconds: 0.02, over: ranks).typical
        figures = [short / 2, Double(1 << 20) / (long / 2)]
      } else if ranks.rank == peer {
        try PingPong.answer(0, bytes: 16, over: ranks)
        try PingPong.answer(0, bytes: 1 << 20, over: ranks)
      }
      try ranks.allReduce(&figures, .maximum)
      return Wire(latency: figures[0], bandwidth: figures[1])
    }
    let memory = try wire(to: nodes.indices.dropFirst().first { nodes[$0] == 0 }, or: .sharedMemory)
    let network = try wire(to: nodes.firstIndex { $0 != 0 }, or: memory)
    self.init(ranks: ranks.size, nodes: Set(nodes).count, network: network, memory: memory)
  }
}

extension Communicator {
  /// Of each rank the first rank of its node: those share memory that MPI says do. Every rank must call it.
  func nodes() throws -> [Int] {
    let node = try node()
    var leader = [UInt8]("\(rank)".utf8)
    try node.broadcast(&leader)
    return try allGather(leader).map { Int(String(decoding: $0, as: UTF8.self)) ?? 0 }
  }
}
