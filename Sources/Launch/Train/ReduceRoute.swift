import Dist
import Model
import Tensor

extension ReduceConfig {
  /// Returns the way of a model's buckets between ranks on these nodes: the same on all ranks, and for the same run on
  /// as many ranks and nodes. `rounded` has the places of the parameters that the towers read in bf16.
  func route<S: Scalar>(
    _ plan: BucketPlan, rounded: [Range<Int>], frozen: Frozen, nodes: NodeMap, _ scalar: S.Type
  ) -> BucketRoute {
    var route = BucketRoute(wire: wire, rounded: wire == .bf16 ? rounded : [])
    guard nodes.hasTwoLevels, levels != .one else { return route }
    guard levels == .auto else {
      route.nodes = nodes
      return route
    }
    // The links are those of a usual cluster and not measured, because a measurement may come out otherwise when the
    // run resumes, and sums in two levels are other bits.
    let cost = ClusterCost(ranks: nodes.ranks, nodes: nodes.nodes.count, network: .network, memory: .sharedMemory)
    let (one, two) = plan.buckets.filter { !frozen.covers($0.range) }.reduce((0.0, 0.0)) { sums, bucket in
      let gathered = Double(route.bytes(of: bucket.range, S.self))
      let reduced = Double(bucket.range.count * wire.stride(of: S.self))
      let within = Double(bucket.range.count * MemoryLayout<S>.stride)
      let single = wire == .fp32 ? cost.scatterOrGather(reduced) : cost.pairwise(reduced)
      return (
        sums.0 + single + cost.scatterOrGather(gathered),
        sums.1 + cost.twoLevels(reduced, within: within) + cost.twoLevels(gathered, within: gathered)
      )
    }
    if two < one { route.nodes = nodes }
    return route
  }
}

extension BucketRoute {
  /// Returns the way that parameters really take: masks are factors of the parameters themselves, which travel as they
  /// are until the model is cut. Levels stay, for they are chosen once.
  func ofWeights(masked isMasked: Bool) -> BucketRoute {
    isMasked ? BucketRoute(wire: wire, nodes: nodes) : self
  }

  /// The route in words; nil if it is that of one level in which nothing is rounded.
  var text: String? {
    guard self != BucketRoute() else { return nil }
    let form = wire == .bf16 ? "gradients in bf16" : "gradients in fp32"
    let values = rounded.isEmpty ? "" : ", parameters of products in bf16"
    guard let nodes else { return form + values }
    let counts = nodes.nodes.map(\.count)
    let sizes =
      Set(counts).count == 1
      ? "\(counts[0])" : counts.count <= 16 ? counts.map(String.init).joined(separator: ", ") : "unequal numbers of"
    return form + values + ", in two levels over \(counts.count) nodes of \(sizes) ranks"
  }
}

extension NodeMap {
  /// Creates the map of a communicator's ranks. Every rank must call it.
  init(over ranks: Communicator) throws {
    let machines = try ranks.nodes()
    self.init(firstRanks: try NodeGroups.current()?.dividing(machines) ?? machines)
  }
}
