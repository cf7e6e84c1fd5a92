public import Foundation
internal import Synchronization

/// A temporary folder of a test, which is removed with its contents when its last reference is released.
public final class TemporaryFolder: Sendable {
  public let url: URL

  public init() throws {
    url = FileManager.default.temporaryDirectory.appending(
      path: "kinship-\(UUID().uuidString)", directoryHint: .isDirectory)
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  /// Creates a folder that tests can share. It is removed when the process exits.
  public static func untilExit() throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    shared.withLock {
      if $0.isEmpty { atexit { TemporaryFolder.shared.withLock { $0.removeAll() } } }
      $0.append(folder)
    }
    return folder
  }

  private static let shared = Mutex<[TemporaryFolder]>([])

  deinit { try? FileManager.default.removeItem(at: url) }

  /// Returns the path of `name` in the folder.
  public func path(_ name: String) -> String { url.appending(path: name).path(percentEncoded: false) }

  /// Makes a named pipe and returns its path. A process that opens one end waits until another opens the other end.
  public func pipe(_ name: String) throws -> String {
    let path = path(name)
    guard mkfifo(path, 0o600) == 0 else { throw CocoaError(.fileWriteUnknown) }
    return path
  }

  /// Writes `bytes` to the file `name`, creates missing folders, and returns the path of the file.
  @discardableResult
  public func write(_ name: String, _ bytes: some Sequence<UInt8>) throws -> String {
    let target = url.appending(path: name)
    try FileManager.default.createDirectory(at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
    let path = target.path(percentEncoded: false)
    // Data.write waits 8 ms for the disk each time, and some tests write a thousand files.
    guard let file = fopen(path, "wb") else { throw CocoaError(.fileWriteUnknown) }
    let content = Array(bytes)
    let written = fwrite(content, 1, content.count, file)
    guard fclose(file) == 0, written == content.count else { throw CocoaError(.fileWriteUnknown) }
    return path
  }
}
