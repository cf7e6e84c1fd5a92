internal import Foundation
internal import Tensor

extension CheckpointMerge {
  /// Writes the checkpoint again as one of `parts` parts, with the same numbers and the same record; ranks take turns
  /// at the parts. All ranks call it. It can be resumed from like any other.
  ///
  /// - Parameter folder: must not be there; it appears at once, when all is written, read back and compared.
  /// - Throws: `MergeError`, the same on all ranks; nothing is left behind. `MPIError`.
  public func reshard(
    _ checkpoint: Checkpoint, into parts: Int, folder: String, version: String, over communicator: Communicator
  ) throws {
    let isFirst = communicator.rank == 0
    let count = checkpoint.manifest.count
    var name = isFirst ? Array("\(folder).\(UUID().uuidString).partial".utf8) : []
    try communicator.broadcast(&name)
    let partial = String(decoding: name, as: UTF8.self)
    func part(_ index: Int) -> CheckpointPart {
      let file = CheckpointManifest.partFile(index, of: parts)
      let own = Communicator.slice(of: count, rank: index, size: parts)
      let averaged = checkpoint.manifest.isAveraged
      return CheckpointPart(
        "\(partial)/\(file)", checkpoint.manifest.slices(own), averaged: averaged
      ) { group, name, elements in
        try scalars(group, name, elements)
      }
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
        let own = try stride(from: communicator.rank, to: parts, by: communicator.size).map { index in
          let written = try part(index).write()
          return CheckpointManifest.Part(
            file: CheckpointManifest.partFile(index, of: parts),
            ranges: [Communicator.slice(of: count, rank: index, size: parts)], bytes: written.bytes,
            sha256: written.sha256)
        }
        try Publish.sync(folder: partial)
        return own
      }
      let all = try communicator.allGather(Array(JSONEncoder().encode(written)))
      try communicator.together {
        guard isFirst else { return }
        let list = try all.flatMap { try JSONDecoder().decode([CheckpointManifest.Part].self, from: Data($0)) }
        let origin = CheckpointManifest.Origin(
          folder: checkpoint.folder, sha256: try checkpoint.sha256, ranks: checkpoint.manifest.ranks, version: version)
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
