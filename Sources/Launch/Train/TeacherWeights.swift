import Dist
import Foundation
import Model
import Tensor

/// A teacher's weights, where the run's placement has them. They stay there until the job ends.
struct TeacherWeights {
  let model: CLIP<Float>
  /// Nil unless the weights are spread.
  let spread: SpreadWeights?
  /// Bytes of a window that all ranks of a node see.
  let shared: Int
  /// Who holds what, and what that takes, for the run's header.
  private(set) var text: String

  /// `read` fills the given parts of the model's arena, nil for all of it, and its buffers; `then` looks at what has
  /// been read. Every rank must call it.
  init(
    _ config: CLIPConfig, _ placement: TeacherPlacement, spreadOver: Int? = nil,
    precision: Precision = .fp32, over ranks: Communicator,
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
    var spread: SpreadWeights?
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
    case .spread:
      precondition(precision == .fp32, "spread weights are not rounded")
      let group = try ranks.split(group: ranks.rank / (spreadOver ?? ranks.size))
      let weights = try SpreadWeights(config, over: group, read: read)
      (model, spread) = (weights.model, weights)
      holders =
        "over \(group.size) ranks, each of which keeps 1/\(group.size) and has two blocks beside it "
        + "(\(Figures.bytes(weights.twoStages)))"
    case .replicated:
      model = try own()
      holders = "a copy on each of \(ranks.size) \(ranks.size == 1 ? "rank" : "ranks")"
    }
    self.spread = spread
    self.shared = shared
    // Spread weights come and go; all others are what they are, and rounded when they are first read.
    model.parameters.holdsValues = spread == nil
    let whole = Figures.bytes(count * MemoryLayout<Float>.stride)
    var measured = "\(Figures.bytes(try memory.most(over: ranks))) a node"
    if let spread {
      var peak = [Double(spread.peak)]
      try ranks.maximum(&peak)
      measured = "\(Figures.bytes(Int(peak[0]))) a rank at most"
    }
    text = "teacher's weights, \(placement.rawValue): \(holders); all are \(whole), measured \(measured)"
    try then(self)
    var bytes = [ProcessMemory.read - readBefore]
    try node.sum(&bytes)
    try ranks.maximum(&bytes)
    // Drawn weights are not read at all.
    if bytes[0] > Double(count) { text += ", read \(Figures.bytes(Int(bytes[0]))) a node" }
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
    var growth = [try Self.held(by: node) - before]
    try ranks.maximum(&growth)
    return max(Int(growth[0] * 1_048_576), 0)
  }

  /// MiB, where nobody allocates meanwhile.
  private static func held(by node: Communicator) throws -> Double {
    try node.barrier()
    var held = [ProcessMemory.share]
    try node.sum(&held)
    return held[0]
  }
}
