internal import Foundation
internal import Synchronization

/// A folder on a disk of this node with copies of files, which the jobs on the node share. One process of each job
/// holds the folder's lock together with those of other jobs. The system unlocks it however the process ends, so
/// whoever gets the lock alone may remove the folder.
enum StageFolder {
  /// The folders that this process holds, with their locks.
  private static let held = Mutex<[(path: String, lock: OpenFile)]>([])
  private static var prefix: String { "kinship-stage-\(geteuid())-" }
  /// Returns the folder for files with this digest. Users of the node do not share folders.
  static func path(_ digest: String, in parent: String) -> String { "\(parent)/\(prefix)\(digest.prefix(16))" }
  /// Returns the path of a folder's lock.
  static func lock(of path: String) -> String { "\(path)/.lock" }

  /// Holds the folder, which is created if it is missing. Copies that killed jobs have left unfinished are removed.
  static func take(_ path: String) throws {
    while true {
      let lock = try opened(path)
      if try has(lock, shared: false) {
        for name in try Publish.names(in: path) where name.hasSuffix(".partial") {
          try Publish.removeAll("\(path)/\(name)")
        }
      }
      if try has(lock, shared: true) { return held.withLock { $0.append((path, lock)) } }
      // Another process is about to remove the folder, or has removed it since.
      Thread.sleep(forTimeInterval: 0.02)
    }
  }

  /// Removes the folders in `parent` that no living process holds, except `kept`.
  static func sweep(_ parent: String, keeping kept: Set<String>) throws {
    for name in try Publish.names(in: parent) where name.hasPrefix(prefix) {
      let path = "\(parent)/\(name)"
      if !kept.contains(path), isOwn(path) == true { try remove(path, opened(path)) }
    }
  }

  /// Removes the folders that this process holds, unless other jobs hold them too, because the job ends.
  static func abandon() {
    let all = held.withLock { list in
      defer { list = [] }
      return list
    }
    for (path, lock) in all {
      do { try remove(path, lock) } catch { Job.report("kinship: warning: \(error.explanation)") }
    }
  }

  private static func remove(_ path: String, _ lock: OpenFile) throws {
    defer { withExtendedLifetime(lock) {} }
    guard try has(lock, shared: false) else { return }
    for name in try Publish.names(in: path) where "\(path)/\(name)" != lock.path {
      try Publish.removeAll("\(path)/\(name)")
    }
    try Publish.removeAll(lock.path)
    // It fails, as it should, if another job has taken the folder in the meantime.
    _ = unsafe rmdir(path)
  }

  /// Returns whether this is a folder of this user, and no link to one; nil if there is nothing. Where everyone may
  /// write, another user may have put a link there, through which we would remove what it leads to.
  private static func isOwn(_ path: String) -> Bool? {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else { return nil }
    return status.st_mode & S_IFMT == S_IFDIR && status.st_uid == geteuid()
  }

  /// Opens the folder's lock. Both are created if they are missing.
  private static func opened(_ path: String) throws(FileError) -> OpenFile {
    while true {
      try Publish.makeFolder(path)
      // Another process may have removed the folder since.
      guard let isOwn = isOwn(path) else { continue }
      guard isOwn else {
        throw FileError(
          action: "use", path: path,
          reason: "it is a link, or another user's folder; remove it, or name another folder in data.stage")
      }
      do throws(FileError) { return try OpenFile(lock(of: path), "open", O_RDWR | O_CREAT) } catch {
        guard error.code == ENOENT else { throw error }
      }
    }
  }

  /// Requests a lock, and returns whether this process has it. That of a folder that was removed does not count.
  private static func has(_ lock: OpenFile, shared: Bool) throws(FileError) -> Bool {
    guard try lock.lock(shared: shared) else { return false }
    let own = try lock.identity()
    return (try? OpenFile.reading(lock.path).identity()) == own
  }
}
