import Dist
import Foundation
import Model
import Tensor

/// A teacher's weights, where the run's placement has them. They stay there until the job ends.
struct TeacherWeights {
  let model: CLIP<Float>
  /// Who holds what, and what that takes, for the run's header.
  let text: String

  /// Reads the weights straight to where they are to be. Every rank must call it.
  init(_ teacher: TeacherModel, over ranks: Communicator) throws {
    let node = try ranks.node()
    let memory = try MemoryGrowth(on: node)
    let holders: String
    switch teacher.placement {
    case .node where node.size > 1:
      let count = CLIP<Float>.layout(teacher.config).count
      let window = try SharedWindow<Float>(count: count, over: node)
      model = CLIP(teacher.config, frozen: true, values: window.values)
      try teacher.read(into: model, ranges: [Step<Float>.slices(of: count, ranks: node.size)[node.rank]])
      try window.publish()
      holders = "one copy for the \(node.size) ranks of a node, each of which has loaded 1/\(node.size)"
    case .node:
      model = try teacher.load()
      holders = "one copy for the only rank of a node"
    case .replicated:
      model = try teacher.load()
      holders = "a copy on each of \(ranks.size) \(ranks.size == 1 ? "rank" : "ranks")"
    }
    let whole = Figures.bytes(model.parameters.count * MemoryLayout<Float>.stride)
    let measured = Figures.bytes(try memory.most(over: ranks))
    text = "teacher's weights, \(teacher.placement.rawValue): \(holders); all are \(whole), measured \(measured) a node"
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
