import Dist
import Foundation
import Model
import Tensor

/// A teacher's weights, where the run's placement has them. They stay there until the job ends.
struct TeacherWeights {
  let model: CLIP<Float>
  /// Nil unless the weights are sharded.
  let sharded: ShardedWeights?
  /// Bytes of a window that all ranks of a node see.
  let shared: Int
  /// Who holds what, and what that takes, for the run's header.
  private(set) var text: String

  /// `read` fills the given parts of the model's arena, nil for all of it, and its buffers; `then` looks at what has
  /// been read. Every rank must call it.
  init(
    _ config: CLIPConfig, _ placement: TeacherPlacement, shardOver: Int? = nil,
    precision: ComputePrecision = .fp32, over ranks: Communicator,
    read: (CLIP<Float>, _ ranges: [Range<Int>]?) throws -> Void, then: (TeacherWeights) throws -> Void = { _ in }
  ) throws {
    let node = try ranks.node()
    let memory = try MemoryGrowth(on: node)
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
      holders = "one copy for the \(node.size) ranks of a node, each of which has loaded 1/\(node.size)"
    case .node:
      model = try own()
      holders = "one copy for the only rank of a node"
    case .sharded:
      precondition(precision == .fp32, "sharded weights are not rounded")
      let group = try ranks.split(group: ranks.rank / (shardOver ?? ranks.size))
      let weights = try ShardedWeights(config, over: group, read: read)
      (model, sharded) = (weights.model, weights)
      holders =
        "over \(group.size) ranks, each of which keeps 1/\(group.size) and has two blocks beside it "
        + "(\(Figures.bytes(weights.twoStages)))"
    case .replicated:
      model = try own()
      holders = "a copy on each of \(ranks.size) \(ranks.size == 1 ? "rank" : "ranks")"
    }
    self.sharded = sharded
    self.shared = shared
    // Sharded weights come and go; all others are what they are, and rounded when they are first read.
    model.parameters.holdsValues = sharded == nil
    let whole = Figures.bytes(count * MemoryLayout<Float>.stride)
    var measured = "\(Figures.bytes(try memory.most(over: ranks))) a node"
    if let sharded {
      measured = "\(Figures.bytes(try ranks.allReduce(sharded.peak, .maximum))) a rank at most"
    }
    text = "teacher's weights, \(placement.rawValue): \(holders); all are \(whole), measured \(measured)"
    try then(self)
    let bytes = try ranks.allReduce(node.allReduce(ProcessMemory.read - readBefore), .maximum)
    // Drawn weights are not read at all.
    if bytes > Double(count) { text += ", read \(Figures.bytes(Int(bytes))) a node" }
  }
}

/// How much more memory the ranks of a node hold together than when this was made.
struct MemoryGrowth {
  private let node: Communicator
  private let before: Double

  /// All ranks of the node must call it.
  init(on node: Communicator) throws {
    self.node = node
    before = try Self.held(by: node)
  }

  /// Bytes, of the node that has grown most. Every rank must call it.
  func most(over ranks: Communicator) throws -> Int {
    let growth = try ranks.allReduce(Self.held(by: node) - before, .maximum)
    return max(Int(growth * 1_048_576), 0)
  }

  /// MiB, where nobody allocates meanwhile.
  private static func held(by node: Communicator) throws -> Double {
    try node.barrier()
    return try node.allReduce(ProcessMemory.share)
  }
}
