import Dist
import Tensor

// P ranks are on N nodes of R ranks each.

extension ClusterCost {
  /// The number of ranks on other nodes, P − R.
  private var ranksElsewhere: Double { Double(max(ranks - ranksOfNode, 0)) }

  /// Returns the bytes that a node sends to others in a reduce-scatter or an all-gather of `n` bytes, by the algorithm
  /// whose time counts. Around a ring only one rank of a node sends to another node: (1 − 1/P) n. With halved distances
  /// all of them do: R (1 − R/P) n.
  func nodeBytes(scattering n: Double) -> Double {
    guard nodes > 1 else { return 0 }
    let share = ring(n) <= halving(n) ? Double(ranks - 1) : Double(ranksOfNode) * ranksElsewhere
    return share / Double(ranks) * n
  }

  /// Returns the bytes that a node sends to others if each rank deals `n` bytes to all ranks alike: R (1 − R/P) n.
  func nodeBytes(dealing n: Double) -> Double {
    nodes > 1 ? Double(ranksOfNode) * ranksElsewhere / Double(ranks) * n : 0
  }

  /// Returns the bytes that a node sends to others if `n` bytes are reduced, or gathered, in two levels: (1 − 1/N) n.
  func nodeBytes(levelling n: Double) -> Double { (1 - 1 / Double(nodes)) * n }

  /// Returns the bytes that a node sends to others in an all-reduce of `n` bytes, if they are few (`smallAllReduce`):
  /// all nodes but one send them towards the root of the tree, and all but one get them from there, 2 (1 − 1/N) n.
  func nodeBytes(reducing n: Double) -> Double { 2 * nodeBytes(levelling: n) }
}

extension RunEstimate {
  /// Returns the bytes that a node sends to other nodes in a step, as its network interface counts them, without the
  /// headers of packets: as many as enter it. MPI may choose other algorithms than those that count.
  func nodeBytes(_ cost: ClusterCost) -> Int {
    payloads.reduce(0) { sum, payload in
      sum + (payload.kind == .exchange ? touchedRowBytes(payload, cost) : cost.bytesIntoNode(payload))
    }
  }

  /// Returns the bytes of the touched rows of the token embedding, with the marks that precede them: of the expected
  /// rows, or of the most if none are known. If they go from rank to rank, each of them goes to one owner, and owners
  /// have equal shares.
  private func touchedRowBytes(_ payload: Payload, _ cost: ClusterCost) -> Int {
    let payload = expectedTokens ?? payload
    let isDealt = payload.way == .pairs && payload.exchanges > 1
    guard isDealt else { return cost.bytesIntoNode(payload) }
    let (width, stride) = (tokenRows.bytes / MemoryLayout<Float>.stride, route.wire.stride(of: Float.self))
    let rows = (tokenRows.expected ?? Double(tokenRows.bound)) * Double(width * stride)
    return Int(cost.nodeBytes(dealing: rows + Double(tokenRows.marks)).rounded())
  }
}
