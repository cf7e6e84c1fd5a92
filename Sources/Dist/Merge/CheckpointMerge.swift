public import Tensor

/// Writes one model, or the weighted sum of several, in pieces, as one file or as a checkpoint of any number of parts.
/// Sums are computed in Double, in the order of the models. One model keeps every bit.
public struct CheckpointMerge {
  /// A model that is read.
  public enum Source {
    case checkpoint(Checkpoint)
    /// Weights of another form: a function that fills a vector with some elements of a parameter, in row-major order.
    case weights((_ name: String, _ elements: Range<Int>, _ values: Tensor<Float>) throws -> Void)
  }

  private typealias Reader = (CheckpointPart.Group, String, Range<Int>, Tensor<Float>) throws -> Void
  private let readers: [(read: Reader, weight: Double)]
  private let scalars = Tensor<Float>(Shape(CheckpointPart.piece))
  private let sums: Tensor<Double>

  /// Creates a merge of models, which must have the parameters to write, in the same shapes.
  public init(_ sources: [(source: Source, weight: Double)]) {
    precondition(!sources.isEmpty, "at least one model")
    readers = sources.map { (Self.reader($0.source), $0.weight) }
    sums = Tensor(Shape(sources.count > 1 ? CheckpointPart.piece : 0))
  }

  private static func reader(_ source: Source) -> Reader {
    switch source {
    case .weights(let read): return { _, name, elements, target in try read(name, elements, target) }
    case .checkpoint(let checkpoint):
      let names = checkpoint.manifest.parameters.enumerated().map { ($1.name, $0) }
      let (reader, indices) = (CheckpointReader(checkpoint), Dictionary(uniqueKeysWithValues: names))
      return { group, name, elements, target in
        guard let parameter = indices[name] else {
          throw CheckpointError(checkpoint.folder, ["parameter \(name) is missing"])
        }
        try reader.read(reader.pieces(group, parameter, elements, into: target))
      }
    }
  }

  /// Returns some scalars of a parameter. The next call overwrites the result.
  func scalars(_ group: CheckpointPart.Group, _ name: String, _ elements: Range<Int>) throws -> Tensor<Float> {
    let target = scalars.slice(0..<elements.count)
    guard readers.count > 1 else {
      try readers[0].read(group, name, elements, target)
      return target
    }
    let sums = sums.slice(0..<elements.count)
    fill(sums, 0)
    for (read, weight) in readers {
      try read(group, name, elements, target)
      add(target, weight: weight, toSums: sums)
    }
    round(sums: sums, into: target)
    return target
  }

  /// Writes one file, a share on each rank, reads it back and renames it. All ranks throw the same `RankError`.
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
        case .float64: .words(part.map { Int64(bitPattern: $0.bitPattern) })
        default: .words(part.map { Int64($0) })
        }
      }
    }
  }
}

extension CheckpointMerge {
  /// Writes the checkpoint again as the new `folder` with `parts` parts. All ranks throw the same `RankError`.
  public func reshard(
    _ checkpoint: Checkpoint, into parts: Int, folder: String, version: String, over communicator: Communicator
  ) throws {
    let isFirst = communicator.rank == 0
    let count = checkpoint.manifest.count
    let partial = try communicator.broadcast { Publish.temporaryPath(for: folder) }
    func file(_ index: Int) -> String { CheckpointManifest.partFile(index, of: parts) }
    func own(_ index: Int) -> Range<Int> { Communicator.slice(of: count, rank: index, size: parts) }
    func part(_ index: Int) -> CheckpointPart {
      CheckpointPart(
        "\(partial)/\(file(index))", checkpoint.manifest.slices(own(index)), averaged: checkpoint.manifest.isAveraged,
        numbers: scalars(_:_:_:))
    }
    do {
      try communicator.together {
        guard isFirst else { return }
        let parent = Publish.folder(of: folder)
        try Publish.makeFolder(parent)
        try Publish.requireSpace((0..<parts).reduce(1 << 20) { $0 + part($1).byteBound }, at: parent, for: folder)
        try Publish.makeFolder(partial)
      }
      let written = try communicator.together {
        let list = try stride(from: communicator.rank, to: parts, by: communicator.size).compactMap { index in
          try part(index).write().map {
            CheckpointManifest.Part(file: file(index), ranges: [own(index)], bytes: $0.bytes, sha256: $0.sha256)
          }
        }
        try Publish.sync(folder: partial)
        return list
      }
      let list = try communicator.gather(written)?.flatMap { $0 }
      try communicator.together {
        guard let list else { return }
        let origin = CheckpointManifest.Origin(
          folder: checkpoint.folder, sha256: checkpoint.sha256, ranks: checkpoint.manifest.ranks, version: version)
        try checkpoint.manifest.resharded(list.sorted { $0.file < $1.file }, origin: origin).write(into: partial)
        try Publish.rename(partial, to: folder)
      }
    } catch {
      if isFirst { try? Publish.removeAll(partial) }
      try communicator.barrier()
      throw error
    }
  }
}
