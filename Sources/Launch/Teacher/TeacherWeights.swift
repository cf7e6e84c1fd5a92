import Dist
import Foundation
import Model
import Tensor

/// A teacher's weights in the placement that the run asks for. They are never freed.
struct TeacherWeights {
  let model: CLIP<Float>
  /// The sharded weights; nil in other placements.
  let sharded: ShardedWeights?
  /// The bytes of the memory that the ranks of a node share.
  let shared: Int
  /// The placement and the measured memory, for the run's header.
  private(set) var text: String

  /// Reads the weights. Every rank must call it.
  ///
  /// - Parameters:
  ///   - shardOver: the number of ranks over which sharded weights are sharded; nil for all.
  ///   - read: fills the model's buffers and the given ranges of its arena, or all of it if they are nil.
  ///   - then: is called after the weights are read. What it reads counts as read for the weights.
  init(
    _ config: CLIPConfig, _ placement: TeacherPlacement, shardOver: Int? = nil,
    precision: ComputePrecision = .fp32, over ranks: Communicator,
    read: (CLIP<Float>, _ ranges: [Range<Int>]?) throws -> Void, then: (TeacherWeights) throws -> Void = { _ in }
  ) throws {
    let node = try ranks.node()
    let heldBefore = try Self.memory(of: node)
    let readBefore = ProcessMemory.read
    let count = CLIP<Float>.layout(config).count
    func own() throws -> CLIP<Float> {
      let model = CLIP<Float>(config, frozen: true, precision: precision)
      try read(model, nil)
      return model
    }
    let holders: String
    var shared = 0
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
      model = try own()
      holders = "one copy for the only rank of a node"
    case .sharded:
      precondition(precision == .fp32, "sharded weights are not rounded")
      let group = try ranks.split(group: ranks.rank / (shardOver ?? ranks.size))
      let weights = try ShardedWeights(config, over: group, read: read)
      (model, sharded) = (weights.model, weights)
      holders =
        "over \(group.size) ranks, each of which keeps 1/\(group.size) and has two more blocks in memory "
        + "(\(Figures.bytes(weights.twoStages)))"
    case .replicated:
      model = try own()
      holders = "a copy on each of \(ranks.size) \(ranks.size == 1 ? "rank" : "ranks")"
    }
    self.sharded = sharded
    self.shared = shared
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
    let bytes = try ranks.allReduce(node.allReduce(ProcessMemory.read - readBefore), .maximum)
    // Weights that were initialized at random were not read at all.
    if bytes > Double(count) { text += ", read \(Figures.bytes(Int(bytes))) a node" }
  }

  /// Returns the MiB that all ranks of a node hold together. All ranks of the node must call it, and none may allocate
  /// meanwhile.
  private static func memory(of node: Communicator) throws -> Double {
    try node.barrier()
    return try node.allReduce(ProcessMemory.share)
  }
}
