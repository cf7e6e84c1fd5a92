import Dist
import Foundation
import Model
import Tensor

/// A teacher's weights in the placement that the run asks for. They are never freed.
struct TeacherWeights {
  let model: CLIP<Float>
  let sharded: ShardedWeights?
  let shared: Int
  private(set) var text: String

  /// Reads the weights, over `shardOver` ranks (nil: all) if they are sharded. `read` fills the model's buffers and
  /// these ranges of its arena (nil: all); `then` may read more for the weights. If all ranks read the same files, of
  /// weights that each of them holds each reads a share, which the others receive. Every rank must call it.
  init(
    _ config: CLIPConfig, _ placement: TeacherPlacement, shardOver: Int? = nil,
    precision: ComputePrecision = .fp32, areFilesShared: Bool = false, over ranks: Communicator,
    read: (CLIP<Float>, _ ranges: [Range<Int>]?) throws -> Void, then: (TeacherWeights) throws -> Void = { _ in }
  ) throws {
    let node = try ranks.node()
    let heldBefore = try Self.memory(of: node)
    let readBefore = ProcessMemory.read
    let count = CLIP<Float>.layout(config).count
    let holders: String
    var (shared, received) = (0, 0.0)
    var sharded: ShardedWeights?
    switch placement {
    case .node where node.size > 1:
      let window = try SharedWindow<Float>(count: count, over: node)
      shared = count * MemoryLayout<Float>.stride
      model = CLIP(config, frozen: true, values: window.values, precision: precision)
      try read(model, [BucketPlan.pieces(of: 0..<count, ranks: node.size)[node.rank]])
      try window.publish()
      holders = "one copy for the \(node.size) ranks of a node, each of which loaded 1/\(node.size)"
    case .node:
      model = try Self.replica(config, precision, areFilesShared: false, over: ranks, read: read).model
      holders = "one copy for the only rank of a node"
    case .sharded:
      precondition(precision == .fp32, "sharded weights are not rounded")
      let group = try ranks.split(group: ranks.rank / (shardOver ?? ranks.size))
      let weights = try ShardedWeights(config, over: group, read: read)
      (model, sharded) = (weights.model, weights)
      let more = "two more blocks in memory (\(Figures.bytes(weights.twoStages)))"
      holders = "over \(group.size) ranks, each of which keeps 1/\(group.size) and has \(more)"
    case .replicated:
      (model, received) = try Self.replica(config, precision, areFilesShared: areFilesShared, over: ranks, read: read)
      holders = "a copy on each of \(Figures.count(ranks.size, "rank"))"
    }
    (self.sharded, self.shared) = (sharded, shared)
    // Only weights that stay in memory can keep their rounded form.
    model.parameters.holdsValues = sharded == nil
    let whole = Figures.bytes(count * MemoryLayout<Float>.stride)
    let measured: String
    if let sharded {
      measured = "\(Figures.bytes(try ranks.allReduce(sharded.peak, .maximum))) a rank at most"
    } else {
      let growth = try ranks.allReduce(Self.memory(of: node) - heldBefore, .maximum)
      measured = "\(Figures.bytes(max(Int(growth * 1_048_576), 0))) a node"
    }
    text = "teacher's weights, \(placement.rawValue): \(holders); all are \(whole), measured \(measured)"
    try then(self)
    let bytes = try ranks.allReduce(node.allReduce(ProcessMemory.read - readBefore - received), .maximum)
    // Weights that were initialized at random were not read at all.
    if bytes > Double(count) { text += ", read \(Figures.bytes(Int(bytes))) a node" }
  }

  /// Reads the whole weights of this rank. If all ranks read the same files, each reads a share, which the others
  /// receive. Returns the model, and the bytes that were received and that `ProcessMemory.read` has counted too.
  private static func replica(
    _ config: CLIPConfig, _ precision: ComputePrecision, areFilesShared: Bool, over ranks: Communicator,
    read: (CLIP<Float>, _ ranges: [Range<Int>]?) throws -> Void
  ) throws -> (model: CLIP<Float>, received: Double) {
    let model = CLIP<Float>(config, frozen: true, precision: precision)
    guard areFilesShared, ranks.size > 1 else {
      try read(model, nil)
      return (model, 0)
    }
    let values = model.parameters.values
    let shares = ranks.slices(of: values.count)
    try read(model, [shares[ranks.rank]])
    // What comes through a socket counts as read, too.
    let before = ProcessMemory.read
    try ranks.allGather(partsOf: values, ranges: shares)
    return (model, ProcessMemory.read - before)
  }

  /// Returns the MiB that all ranks of a node hold. All of them must call it, and none may allocate meanwhile.
  private static func memory(of node: Communicator) throws -> Double {
    try node.barrier()
    return try node.allReduce(ProcessMemory.share)
  }
}
