internal import Foundation
internal import Tensor

/// Which checkpoints of a run remain when a new one is in its place.
public struct CheckpointRetention: Sendable, Equatable {
  /// How many of the newest; nil for all.
  public var newest: Int?
  /// Those whose steps are a multiple of this, too.
  public var every: Int?

  public init(newest: Int?, every: Int? = nil) {
    precondition(newest ?? 1 > 0 && every ?? 1 > 0, "at least the newest checkpoint is kept")
    self.newest = newest
    self.every = every
  }

  /// Those of some steps that remain.
  func kept(of steps: [Int]) -> Set<Int> {
    let newest = steps.sorted(by: >).prefix(newest ?? .max)
    return Set(newest).union(steps.filter { step in every.map { step % $0 == 0 } ?? false })
  }
}

/// Writes the checkpoints of one run.
///
/// A checkpoint is a folder with a part a rank and a manifest. It is written under another name, brought to the disk
/// and read back before it is renamed, so a folder named `step-…` is whole, whenever the job dies.
public struct CheckpointWriter: Sendable {
  /// What has been done when a test wants to step in.
  package enum Stage: String, Sendable {
    case partWritten, manifestWritten, renamed, published
  }

  /// What came of a write.
  public struct Receipt: Sendable {
    /// The checkpoint's folder.
    public let folder: String
    /// Why older checkpoints that should go could not be removed; known to rank 0.
    public let notRemoved: [String]
  }

  public let runFolder: String
  public let retention: CheckpointRetention
  private let communicator: Communicator
  private var folders: CheckpointFolders { CheckpointFolders(run: runFolder) }

  /// Bytes that may still be written where a path lies; a test says otherwise.
  package var available: @Sendable (String) throws(FileError) -> Int = { path throws(FileError) in
    try Publish.available(at: path)
  }
  package var reached: @Sendable (Stage) -> Void = { _ in }

  public init(runFolder: String, retention: CheckpointRetention, communicator: Communicator) {
    self.runFolder = runFolder
    self.retention = retention
    self.communicator = communicator
  }

  /// Writes `step-STEP`, marks it `latest`, and removes what need not remain. All ranks call it, with their own
  /// ranges of one arena and the same record; it returns when the checkpoint is published.
  ///
  /// - Throws: `CheckpointError` (exit code 74) where there is too little space or the system refuses; `MPIError`.
  public func write(_ state: CheckpointState, _ record: CheckpointRecord) throws -> Receipt {
    let target = folders.path(folders.name(record.step))
    let partial = folders.partial(record.step)
    let file = CheckpointManifest.partFile(communicator.rank, of: communicator.size)
    let part = state.part("\(partial)/\(file)")

    // Ranks may write for minutes, and their cores are wanted elsewhere.
    try communicator.patientBarrier()
    let bound = try communicator.allReduce(part.byteBound)
    if communicator.rank == 0 {
      try CheckpointError.naming(target) { try prepare(partial, bytes: bound) }
    }
    try communicator.patientBarrier()

    let written = try CheckpointError.naming(target) {
      let written = try part.write()
      try Publish.sync(folder: partial)
      return written
    }
    reached(.partWritten)
    let own = CheckpointManifest.Part(
      file: file, ranges: state.positions, bytes: written.bytes, sha256: written.sha256)
    try communicator.patientBarrier()
    let parts = try communicator.allGather(own)

    var notRemoved: [String] = []
    if communicator.rank == 0 {
      notRemoved = try CheckpointError.naming(target) {
        let manifest = CheckpointManifest(
          format: CheckpointManifest.currentFormat, record: record,
          parameters: state.entries.map { .init(name: $0.name, shape: $0.shape.array) },
          parts: parts,
          ema: state.average == nil ? nil : true)
        if let problem = manifest.problem { preconditionFailure("the ranks' ranges of the arena: \(problem)") }
        try manifest.write(into: partial)
        reached(.manifestWritten)
        try folders.publish(record.step) { reached(.renamed) }
        reached(.published)
        return folders.prune(behind: record.step, retention)
      }
    }
    try communicator.patientBarrier()
    return Receipt(folder: target, notRemoved: notRemoved)
  }

  /// Makes the folder to write into, after a look at the space that is left.
  private func prepare(_ partial: String, bytes: Int) throws(FileError) {
    try Publish.makeFolder(runFolder)
    try Publish.requireSpace(bytes, at: runFolder, for: partial, available: available)
    try Publish.removeAll(partial)
    try Publish.makeFolder(partial)
  }
}
