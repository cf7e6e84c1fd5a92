import Foundation

/// What a message costs: α + n β.
struct Wire: Equatable {
  /// α, seconds.
  var latency: Double
  /// 1/β, bytes a second.
  var bandwidth: Double
}

/// The time of collectives on P ranks, R of them on each node, by the usual model of a message of n bytes: α + n β,
/// with the α and β of the network between nodes and of shared memory within one. Of two ways the quicker counts: MPI's
/// own choice by size and number of ranks is near it.
struct ClusterCost {
  var ranks: Int
  var nodes: Int
  var network: Wire
  var memory: Wire

  /// R.
  var ranksOfNode: Int { max((ranks + nodes - 1) / max(nodes, 1), 1) }

  /// Reduce-scatter or all-gather of `n` bytes in all, around a ring in the order of ranks:
  /// (P − 1)(α + n/P β). Of a node's ranks one sends to another node, so the wire carries one message at a time.
  func ring(_ n: Double) -> Double {
    let wire = nodes > 1 ? network : memory
    return Double(ranks - 1) * (wire.latency + n / Double(ranks) / wire.bandwidth)
  }

  /// The same by halving (and doubling) distances, of which Rabenseifner's all-reduce is made: log₂ P messages of n/2,
  /// n/4, …, log₂ P α + (1 − 1/P) n β. As long as the other half is on other nodes, all R ranks of a node send at once:
  /// R β.
  func halving(_ n: Double) -> Double {
    var (seconds, distance, bytes) = (0.0, Double(ranks), n)
    while distance > 1 {
      distance /= 2
      bytes /= 2
      let crosses = nodes > 1 && distance >= Double(ranksOfNode)
      seconds +=
        crosses
        ? network.latency + bytes * Double(ranksOfNode) / network.bandwidth : memory.latency + bytes / memory.bandwidth
    }
    return seconds
  }

  /// Reduce-scatter or all-gather.
  func share(_ n: Double) -> Double { ranks == 1 ? 0 : min(ring(n), halving(n)) }

  /// Everybody to everybody, of whom each receives `n` bytes: (P − 1) α + R n β, for all ranks of a node receive at
  /// once.
  func exchange(_ n: Double) -> Double {
    guard ranks > 1 else { return 0 }
    let wire = nodes > 1 ? network : memory
    return Double(ranks - 1) * wire.latency + Double(nodes > 1 ? ranksOfNode : 1) * n / wire.bandwidth
  }

  /// A sum of few numbers: 2 log₂ P α.
  func small() -> Double {
    ranks == 1 ? 0 : 2 * log2(Double(ranks)).rounded(.up) * (nodes > 1 ? network : memory).latency
  }
}
