/// Copies of datasets' shards and caches' parts on disks of the nodes' own, made once on each node: the sampler
/// shuffles over all shards, so that every rank reads from all of them. The ranks of a node share the copying.
package struct Staging {
  /// The files of one folder, with what is known of them.
  package struct Source: Sendable {
    package typealias File = (name: String, bytes: Int, sha256: String)
    let folder: String
    let files: [File]
    let digest: String
    package var bytes: Int { files.reduce(0) { $0 + $1.bytes } }

    init(_ folder: String, _ files: [File]) {
      (self.folder, self.files) = (folder, files)
      digest = SHA256.hash(files.map { "\($0.sha256) \($0.name)\n" }.joined().utf8).hexadecimal
    }
  }

  /// The copies' folders on this node, in the order of the sources.
  package let folders: [String]
  /// The number of nodes, and the bytes that were copied to all of them together.
  package let nodes: Int
  package let copied: Int

  /// Copies the sources to folders in `parent`, and checks each file's SHA-256. Files that are there already are only
  /// checked; folders that no living process holds are removed before. Every rank must call it; the first of each node
  /// gives `parent`. After each file all ranks call `pause` with the bytes that are there by now, on all nodes
  /// together, and those that will be. All throw the same `RankError`, which names the host, if one of them fails.
  package init(
    _ sources: [Source], to parent: () throws -> String, over ranks: Communicator,
    pause: (_ done: Int, _ all: Int) throws -> Void,
    available: (String) throws(FileError) -> Int = Publish.available(at:)
  ) throws {
    precondition(!sources.isEmpty, "a run has a dataset")
    func together(_ body: () throws -> Void) throws {
      try ranks.together {
        do { try body() } catch {
          throw DatasetError("data.stage", "on \(ranks.hostname): \(error.explanation)", status: error.exitStatus)
        }
      }
    }
    let node = try ranks.node()
    let base = try ranks.together { try node.broadcast(parent) }
    let folders = sources.map { StageFolder.path($0.digest, in: base) }
    try together {
      guard node.rank == 0 else { return }
      try Publish.makeFolder(base)
      for folder in Set(folders).sorted() { try StageFolder.take(folder) }
      try StageFolder.sweep(base, keeping: Set(folders))
    }
    nodes = try ranks.allReduce(node.rank == 0 ? 1 : 0)
    // A dataset may be named twice.
    var known: Set<String> = []
    let files = zip(sources, folders).filter { known.insert($1).inserted }
      .flatMap { source, folder in source.files.map { (file: $0, from: source.folder, to: folder) } }
    try together {
      guard node.rank == 0 else { return }
      let missing = files.filter { (try? OpenFile.reading("\($0.to)/\($0.file.name)").size()) != $0.file.bytes }
      let bytes = missing.reduce(0) { $0 + $1.file.bytes }
      try Publish.requireSpace(bytes, at: base, for: base, available: available)
    }
    let own = stride(from: node.rank, to: files.count, by: node.size).map { files[$0] }
    let all = nodes * files.reduce(0) { $0 + $1.file.bytes }
    // The bytes that are there, and those of them that were copied: this rank's, and all ranks' together.
    var (counts, sums) = ([0, 0], [0, 0])
    for round in 0..<(try ranks.allReduce(own.count, .maximum)) {
      try together {
        guard round < own.count else { return }
        let (file, source, target) = own[round]
        if try Self.copy(file, from: "\(source)/\(file.name)", to: "\(target)/\(file.name)") {
          counts[1] += file.bytes
        }
        counts[0] += file.bytes
      }
      sums = counts
      try ranks.allReduce(&sums)
      try pause(sums[0], all)
    }
    (self.folders, copied) = (folders, sums[1])
  }

  /// Removes this job's copies, unless other jobs hold them. Every rank calls it when it no longer reads from them.
  package static func release() { StageFolder.abandon() }

  /// Copies a file and checks it on the way. Returns false, and does nothing, if it is there already.
  private static func copy(_ file: Source.File, from source: String, to target: String) throws(FileError) -> Bool {
    if let found = try? OpenFile.reading(target), (try? found.size()) == file.bytes,
      (try? found.sha256()) == file.sha256
    {
      return false
    }
    let original = try OpenFile.reading(source)
    try Publish.file(target) { output throws(FileError) in
      var hasher = SHA256()
      var block: [UInt8] = []
      let size = 1 << 20
      for at in stride(from: 0, to: file.bytes, by: size) {
        try original.read(min(size, file.bytes - at), at: at, into: &block)
        hasher.update(block)
        try output.append(block)
      }
      let found = hasher.finalize().hexadecimal
      guard found == file.sha256 else {
        let reason = "it is altered: its SHA-256 is \(found), expected \(file.sha256)"
        throw FileError(action: "stage", path: source, reason: reason, status: .badData)
      }
    }
    return true
  }
}
