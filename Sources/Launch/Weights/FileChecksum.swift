import Dist
import Foundation

extension SHA256 {
  /// Returns the SHA-256 of a file as hexadecimal digits. The file is read in pieces, because a file of weights may be
  /// larger than a rank's memory.
  ///
  /// - Throws: a `UserError` (exit code 74) if the file cannot be read.
  static func ofFile(_ path: String) throws -> String {
    do {
      let file = try FileHandle(forReadingFrom: URL(filePath: path))
      defer { try? file.close() }
      var hasher = SHA256()
      while let piece = try file.read(upToCount: 1 << 20), !piece.isEmpty { hasher.update(piece) }
      return hasher.finalize().hexadecimal
    } catch {
      throw UserError(path, error.systemReason, status: .inputOutput)
    }
  }

  /// Returns the SHA-256 of a file of weights, or of the list of its shards' checksums if it is sharded.
  static func ofWeights(_ file: any NamedTensors) throws -> String {
    guard let sharded = file as? ShardedSafetensors else { return try ofFile(file.path) }
    return hash(try sharded.parts.map(ofFile).joined(separator: "\n").utf8).hexadecimal
  }
}

extension Communicator {
  /// Returns the SHA-256 of a large file, which rank 0 computes by `sum` for all ranks whose path leads to the same
  /// file; any other rank reads its own. Every rank must call it.
  func sha256(of path: String, once sum: () throws -> String) throws -> String {
    let status = try FileManager.default.attributesOfItem(atPath: URL(filePath: path).resolvingSymlinksInPath().path)
    let files = try allGather("\(status[.systemNumber] ?? "") \(status[.systemFileNumber] ?? "")")
    let found = try broadcast(sum)
    return files[rank] == files[0] ? found : try SHA256.ofFile(path)
  }
}
