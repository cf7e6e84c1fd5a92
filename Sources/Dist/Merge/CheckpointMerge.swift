internal import Foundation
internal import Tensor

/// One checkpoint, or the weighted sum of several, as one file or as a checkpoint of any number of parts.
///
/// Everything passes through in pieces, so memory does not grow with the model: 12 MiB of pieces a rank, and the parts
/// that are open. Sums over checkpoints are held in Double, in the order of the checkpoints, and rounded once; a single
/// checkpoint's numbers keep every bit.
public struct CheckpointMerge {
  public struct Source: Sendable {
    public let checkpoint: Checkpoint
    public let weight: Double

    public init(_ checkpoint: Checkpoint, weight: Double) {
      self.checkpoint = checkpoint
      self.weight = weight
    }
  }

  private let sources: [Source]
  private let readers: [(reader: CheckpointReader, indices: [String: Int])]
  private let scalars = Tensor<Float>(Shape(CheckpointPart.piece))
  private let sums: Tensor<Double>

  /// The checkpoints must have the parameters that are asked for later, in the same shapes: see `mismatches`.
  public init(_ sources: [Source]) {
    precondition(!sources.isEmpty, "at least one checkpoint")
    self.sources = sources
    readers = sources.map { source in
      let names = source.checkpoint.manifest.parameters.enumerated().map { ($1.name, $0) }
      return (CheckpointReader(source.checkpoint), Dictionary(uniqueKeysWithValues: names))
    }
    sums = Tensor(Shape(sources.count > 1 ? CheckpointPart.piece : 0))
  }

  /// Every parameter of one checkpoint that another lacks, has beside them or has in another shape; those whose names
  /// begin with `prefix` are left out.
  public static func mismatches(_ one: Checkpoint, _ other: Checkpoint, leaving prefix: String) -> [String] {
    func shapes(_ checkpoint: Checkpoint) -> [String: [Int]] {
      Dictionary(
        uniqueKeysWithValues: checkpoint.manifest.parameters.filter { !$0.name.hasPrefix(prefix) }
          .map { ($0.name, $0.shape) })
    }
    let (first, second) = (shapes(one), shapes(other))
    return Set(first.keys).union(second.keys).sorted().compactMap { name in
      switch (first[name], second[name]) {
      case (let shape?, nil): "parameter \(name) \(shape) is missing"
      case (nil, let shape?): "parameter \(name) \(shape) is one too many"
      case (let shape, let found):
        shape == found ? nil : "parameter \(name) has the shape \(found ?? []), not \(shape ?? [])"
      }
    }
  }

  /// Scalars of a parameter; what was given is overwritten by the next call.
  func scalars(
    _ group: CheckpointPart.Group, _ name: String, _ elements: Range<Int>
  ) throws(CheckpointError) -> Tensor<Float> {
    let target = scalars.slice(0..<elements.count)
    func read(_ index: Int) throws(CheckpointError) {
      guard let parameter = readers[index].indices[name] else {
        throw CheckpointError(sources[index].checkpoint.folder, ["parameter \(name) is missing"])
      }
      try readers[index].reader.read(group, parameter, elements, into: target)
    }
    guard sources.count > 1 else {
      try read(0)
      return target
    }
    let sums = sums.slice(0..<elements.count)
    fill(sums, 0)
    for index in sources.indices {
      try read(index)
      add(target, weight: sources[index].weight, toSums: sums)
    }
    round(sums: sums, into: target)
    return target
  }

  /// Writes one file with the tensors and some words about them, each rank a share of it. All ranks call it with the
  /// same arguments; it returns when the file is in its place, read back and compared.
  ///
  /// - Throws: `MergeError`, the same on all ranks; nothing is left behind. `MPIError`.
  public func write(
    _ tensors: [MergedTensor], metadata: [String: String], as form: SharedTensorFile.Form, to path: String,
    over communicator: Communicator
  ) throws {
    let file = SharedTensorFile(path: path, form: form, tensors: tensors.map(\.description), metadata: metadata)
    try file.write(over: communicator) { index, elements in
      switch tensors[index].content {
      case .scalars(let group, let name): return .floats(try scalars(group, name, elements))
      case .values(let values):
        let part = values[elements]
        return switch tensors[index].description.type {
        case .float32: .floats(Tensor(Shape(part.count), part.map { Float($0) }))
        case .float64: .doubles(Tensor(Shape(part.count), part))
        default: .integers(part.map { Int64($0) })
        }
      }
    }
  }
}
