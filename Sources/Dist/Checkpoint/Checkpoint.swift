internal import Foundation

/// A checkpoint whose parts are all verified: each exists and has the size and checksum in the manifest.
public struct Checkpoint: Sendable {
  /// The folder, with symbolic links resolved.
  public let folder: String
  public let manifest: CheckpointManifest
  /// The SHA-256 of the manifest, which contains the checksums of all parts.
  public let sha256: String

  /// Opens a checkpoint after all ranks have verified it. Throws a `CheckpointError` that names every bad part, or a
  /// `RankDifference` if the ranks see different checkpoints.
  public static func open(_ folder: String, communicator: Communicator? = nil) throws -> Checkpoint {
    let folder = try resolved(folder, communicator)
    let found: Result<(manifest: CheckpointManifest, sha256: String), CheckpointError>
    do throws(CheckpointError) { found = .success(try CheckpointManifest.read(folder)) } catch {
      found = .failure(error)
    }
    let fact = (try? found.get()).map { "a manifest with the SHA-256 \($0.sha256)" } ?? "none that can be read"
    try communicator?.requireSame("checkpoint \(folder)", fact, isShown: true)
    let (manifest, sha256) = try found.get()
    // Ranks with the same file share the work, and those with a copy of their own verify all of it.
    let viewers = try communicator?.sharing("\(folder)/\(CheckpointManifest.file)")
    let own = stride(from: viewers?.rank ?? 0, to: manifest.parts.count, by: viewers?.size ?? 1)
    var findings = own.compactMap { problem(of: manifest.parts[$0], in: folder) }
    if let communicator, let viewers, viewers.size < communicator.size {
      findings = findings.map {
        Finding(problem: "on \(communicator.hostname), \($0.problem)", isFailure: $0.isFailure)
      }
    }
    if let communicator { findings = try communicator.allGather(findings).flatMap { $0 } }
    if findings.isEmpty { return Checkpoint(folder: folder, manifest: manifest, sha256: sha256) }
    let status = findings.contains(where: \.isFailure) ? ExitStatus.inputOutput : .badData
    throw CheckpointError(folder, findings.map(\.problem), status: status)
  }

  /// A problem of a part, and whether the system caused it.
  private struct Finding: Codable {
    let problem: String
    var isFailure = false
  }

  /// Finds the checkpoint marked `latest` if it is sound, or else the newest sound one, with an error for each other.
  public static func newestSound(
    in runFolder: String, communicator: Communicator? = nil
  ) throws -> (found: Checkpoint?, unsound: [CheckpointError]) {
    let folders = CheckpointFolders(run: runFolder)
    let own = folders.candidates()
    try communicator?.requireSame(
      "folder \(runFolder)", own.isEmpty ? "no checkpoint" : "checkpoints", isShown: true)
    let names = try communicator?.broadcast { own } ?? own
    var unsound: [CheckpointError] = []
    for name in names {
      do {
        return (try open(folders.path(name), communicator: communicator), unsound)
      } catch let error as CheckpointError { unsound.append(error) }
    }
    return (nil, unsound)
  }

  /// Returns true if a run's folder of checkpoints holds that of a step, whose parts are not verified.
  public static func exists(step: Int, in runFolder: String) -> Bool {
    let folders = CheckpointFolders(run: runFolder)
    let manifest = "\(folders.path(folders.name(step)))/\(CheckpointManifest.file)"
    return FileManager.default.fileExists(atPath: manifest)
  }

  /// Returns the path without symbolic links, so that it stays valid if `latest` or `best` moves, and without a final
  /// slash. The ranks follow the link that rank 0 sees, because a run may be moving it.
  private static func resolved(_ folder: String, _ communicator: Communicator?) throws -> String {
    let given = URL(filePath: folder, directoryHint: .isDirectory)
    let isLink = [CheckpointFolders.latest, CheckpointFolders.best].contains(given.lastPathComponent)
    func target() -> String {
      isLink ? (try? FileManager.default.destinationOfSymbolicLink(atPath: given.path)) ?? "" : ""
    }
    let name = try communicator?.broadcast(target) ?? target()
    let isMarked = isLink && !name.isEmpty && !name.contains("/")
    let url = isMarked ? given.deletingLastPathComponent().appending(path: name, directoryHint: .isDirectory) : given
    let path = url.resolvingSymlinksInPath().path(percentEncoded: false)
    return path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
  }

  private static func problem(of part: CheckpointManifest.Part, in folder: String) -> Finding? {
    do throws(FileError) {
      let path = "\(folder)/\(part.file)"
      guard FileManager.default.fileExists(atPath: path) else { return Finding(problem: "\(part.file) is missing") }
      let file = try OpenFile.reading(path)
      let bytes = try file.size()
      guard bytes == part.bytes else {
        return Finding(problem: "\(part.file) has \(bytes) bytes, expected \(part.bytes)")
      }
      let found = try file.sha256()
      return found == part.sha256
        ? nil : Finding(problem: "\(part.file) was altered: its SHA-256 is \(found), expected \(part.sha256)")
    } catch { return Finding(problem: "\(error)", isFailure: true) }
  }
}

/// A checkpoint that cannot be written or used, with all its problems.
public struct CheckpointError: Error, ExitCoded, Hashable, CustomStringConvertible {
  public let folder: String
  /// The problems, one sentence each; never empty.
  public let problems: [String]
  /// 65 if the stored contents are wrong, 74 if the system reports an error.
  public let status: ExitStatus

  init(_ folder: String, _ problems: [String], status: ExitStatus = .badData) {
    (self.folder, self.problems, self.status) = (folder, problems, status)
  }

  public var description: String {
    "checkpoint \(folder):" + (problems.count == 1 ? " \(problems[0])" : problems.map { "\n  \($0)" }.joined())
  }

  /// Runs `body` and converts a failure of the system or of the HDF5 library to an error of this checkpoint.
  static func naming<R>(_ folder: String, _ body: () throws -> R) throws(CheckpointError) -> R {
    do { return try body() } catch {
      let status = (error as? HDF5Error)?.status ?? .inputOutput
      throw error as? CheckpointError ?? CheckpointError(folder, ["\(error)"], status: status)
    }
  }
}
