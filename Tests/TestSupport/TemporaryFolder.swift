public import Foundation
internal import Synchronization

/// A folder of a test's own, removed with everything in it when the last reference is gone.
public final class TemporaryFolder: Sendable {
  public let url: URL

  public init() throws {
    url = FileManager.default.temporaryDirectory.appending(
      path: "kinship-\(UUID().uuidString)", directoryHint: .isDirectory)
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  /// A folder that all tests share, removed when the process ends.
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

  /// The path of `name` in the folder.
  public func path(_ name: String) -> String { url.appending(path: name).path(percentEncoded: false) }

  /// Makes a pipe with a name and returns its path. Whoever opens one end waits until somebody opens the other.
  public func pipe(_ name: String) throws -> String {
    let path = path(name)
    guard mkfifo(path, 0o600) == 0 else { throw CocoaError(.fileWriteUnknown) }
    return path
  }

  /// Writes `bytes` to `name`, making folders on the way, and returns its path.
  @discardableResult
  public func write(_ name: String, _ bytes: some Sequence<UInt8>) throws -> String {
    let target = url.appending(path: name)
    try FileManager.default.createDirectory(at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
    let path = target.path(percentEncoded: false)
    // Not by Data.write, which waits for the disk each time: 8 ms, and some tests write a thousand files.
    guard let file = fopen(path, "wb") else { throw CocoaError(.fileWriteUnknown) }
    let content = Array(bytes)
    let written = fwrite(content, 1, content.count, file)
    guard fclose(file) == 0, written == content.count else { throw CocoaError(.fileWriteUnknown) }
    return path
  }
}
